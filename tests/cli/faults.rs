//! Faults that people found in use, and the tests that show that each is gone.
//!
//! The letter of a fault tells its kind: A, a false report; B, two instances, or one that hangs; C,
//! wrong advice or a wrong refusal; D, what an operator reads and types; F, what upstream's own
//! tests of its container ask for. E were sentences of documents, which `scripts/check-docs.sh`
//! checks as far as a machine can.

use std::fs;
use std::path::Path;

/// Each fault in a few words, and its tests as `suite::module::name`. A suite with a slash is a
/// directory of modules below `crates`.
const FAULTS: &[(&str, &str, &[&str])] = &[
    (
        "A1",
        "ready or up without a program",
        &["cli::evidence::a_command_that_was_never_executed_is_never_up_and_never_ready"],
    ),
    (
        "A2",
        "an older order's words for another program's state",
        &["cli::desired_states::what_another_program_desires_is_said_to_be_another_programs"],
    ),
    (
        "A3",
        "ready where nobody asks",
        &["cli::evidence::a_gateway_that_nobody_probes_is_up_and_to_wait_for_ready_is_an_error"],
    ),
    (
        "A4",
        "ready by another process's answer",
        &["cli::ports::an_older_process_that_answers_on_the_port_makes_no_gateway_ready"],
    ),
    (
        "A5",
        "stopped by the agent's command, and back",
        &[
            "cli::desired_states::a_stop_by_the_agents_own_command_is_honoured_and_said_to_be_another_programs",
            "hermes::main::real_hermes_that_was_stopped_by_its_own_command_stays_stopped_and_that_is_said",
        ],
    ),
    (
        "A6",
        "ready although it is frozen",
        &[
            "cli::live::a_gateway_that_a_signal_has_stopped_is_ended_with_evidence_and_works_again",
            "cli::live::where_the_policy_is_to_warn_one_that_does_not_respond_is_told_everywhere_and_left_alone",
            "hermes::main::real_hermes_that_is_frozen_by_a_signal_or_by_a_held_interpreter_lock_is_ended_with_evidence_and_works_again",
            "container::frozen::hermes_that_is_frozen_by_a_signal_or_a_held_interpreter_lock_is_explained_ended_with_evidence_and_works_again",
        ],
    ),
    (
        "A7",
        "nothing there for who may not look",
        &[
            "cli::evidence::without_permission_the_answer_is_that_it_cannot_be_known_and_not_that_nothing_is_there",
            "cli::strangers::of_a_home_that_a_user_may_not_enter_nothing_is_told_as_missing",
            "cli::strangers::of_slots_that_a_user_may_not_enter_nothing_is_told_as_missing",
        ],
    ),
    (
        "A8",
        "no profile for who may not look",
        &[
            "cli::evidence::without_permission_the_answer_is_that_it_cannot_be_known_and_not_that_nothing_is_there",
            "cli::strangers::of_profiles_that_a_user_may_not_enter_nothing_is_told_as_missing",
        ],
    ),
    (
        "A9",
        "a NUL in a value",
        &["cli::evidence::a_text_that_no_program_can_be_given_is_a_failed_start_everywhere"],
    ),
    (
        "A10",
        "up although it ended at once",
        &["cli::evidence::a_gateway_that_ends_within_the_start_window_is_a_failed_start_with_its_last_lines"],
    ),
    (
        "A11",
        "a taken port is a configuration error",
        &[
            "cli::ports::a_gateway_whose_port_is_taken_is_told_with_the_holder_and_so_is_the_advice",
            "cli::ports::a_port_that_another_profiles_gateway_has_is_told_with_that_profile",
        ],
    ),
    (
        "A12",
        "restarts that somebody asked for",
        &["cli::evidence::only_deaths_that_nobody_asked_for_are_restarts"],
    ),
    (
        "A13",
        "down, and served",
        &["cli::ports::a_profile_that_another_gateway_serves_is_said_to_be_served_and_not_to_be_down"],
    ),
    (
        "A14",
        "out of memory is SIGKILL",
        &[
            "container::memory::a_gateway_that_the_kernel_kills_for_want_of_memory_is_said_to_be_out_of_memory",
        ],
    ),
    (
        "B1",
        "two of each after a killed up",
        &["cli::one_instance::up_after_a_killed_up_ends_what_that_left_and_runs_one_of_each_gateway"],
    ),
    (
        "B2",
        "a log daemon that cannot work freezes gateways",
        &[
            "supervisor::log_daemon::a_limit_of_the_size_of_files_keeps_no_line_from_its_log",
            "supervisor::log_daemon::where_no_log_daemon_can_work_a_warning_says_so_and_no_service_is_blocked",
        ],
    ),
    (
        "B3",
        "SIGPIPE ignored",
        &[
            "supervisor::start_state::each_of_our_ways_to_become_a_program_gives_it_clean_signals",
            "sys/tests::programs::every_program_is_started_in_one_place_which_gives_it_clean_signals",
        ],
    ),
    (
        "B4",
        "waiting for a supervisor or a program that is gone",
        &[
            "cli::one_instance::a_restart_whose_interpreter_has_been_moved_away_fails_at_once_and_says_why",
            "cli::one_instance::a_command_that_waits_for_a_gateway_learns_at_once_that_the_supervisor_was_killed",
        ],
    ),
    (
        "B5",
        "Ctrl-C without a word",
        &[
            "cli::several::ctrl_c_while_gateways_are_waited_for_says_which_have_come_and_which_have_not",
            "cli::several::ctrl_c_while_a_gateway_does_not_stop_says_that_it_is_stopping",
        ],
    ),
    (
        "B6",
        "something of an up that lost",
        &["cli::up::of_ten_that_come_up_at_once_one_supervises_and_the_others_leave_it_alone"],
    ),
    (
        "C1",
        "advice to kill what nobody has identified",
        &[
            "doctor::checks::no_fix_ends_a_process_that_is_not_known_to_be_a_gateway_of_the_owner",
            "doctor::checks::files_that_name_the_wrong_process_are_found",
        ],
    ),
    (
        "C2",
        "hints without the definition",
        &[
            "cli::definition::a_home_remembers_the_definition_that_it_was_brought_up_with",
            "cli::definition::hints_name_the_definition_where_the_home_cannot_remember_it",
        ],
    ),
    (
        "C3",
        "an edited definition is silently old",
        &["cli::definition::an_edited_definition_is_said_to_be_newer_until_reload_has_it_take_effect"],
    ),
    (
        "C4",
        "lost+found is a profile",
        &["cli::doctor::what_file_systems_and_file_servers_put_beside_profiles_is_nobodys_business"],
    ),
    (
        "C5",
        "up without a reader",
        &["cli::no_reader::up_supervises_whether_its_output_is_read_or_not_and_where_it_has_none"],
    ),
    ("C6", "no /proc", &["cli::no_proc::without_a_proc_gateways_are_started_logged_shown_and_stopped"]),
    (
        "C7",
        "supervise --help",
        &["cli::usage::verbs_that_only_programs_call_explain_themselves_too_and_do_nothing"],
    ),
    (
        "C8",
        "init --help",
        &[
            "cli::usage::every_verb_explains_itself",
            "cli::usage::verbs_that_only_programs_call_explain_themselves_too_and_do_nothing",
        ],
    ),
    (
        "C9",
        "a slip in --home",
        &["cli::refusals::a_home_that_is_named_and_does_not_exist_is_refused_by_every_command_and_not_made"],
    ),
    (
        "C10",
        "advice about a mark that does nothing",
        &["cli::doctor::a_token_behind_a_byte_order_mark_is_taken_out_as_well"],
    ),
    (
        "C11",
        "line ends of Windows",
        &["cli::windows::a_run_file_with_the_line_ends_of_windows_is_named_with_what_fix_it"],
    ),
    ("C12", "no word of HERMES_BIN", &["slot::interpreter::a_failure_names_its_stage_and_errno"]),
    (
        "C14",
        "a default port that is none",
        &["cli::example::the_example_listens_where_its_probe_asks_and_doctor_looks_if_no_port_is_set"],
    ),
    (
        "C15",
        "a volume shared through a group",
        &["container::doctor::a_volume_that_is_shared_through_a_group_is_well"],
    ),
    ("C16", "no writable /run", &["container::starting::a_read_only_root_without_run_is_told_what_to_mount"]),
    (
        "C17",
        "no capabilities",
        &["container::starting::root_without_its_capabilities_is_told_which_are_missing"],
    ),
    (
        "D1",
        "a pasted stamp finds nothing",
        &["cli::logs_query::a_stamp_that_was_printed_finds_its_lines_again_whatever_the_zone"],
    ),
    (
        "D2",
        "one long row wraps all",
        &["cli::status::on_a_terminal_the_table_is_made_to_fit_and_in_a_pipe_it_is_whole"],
    ),
    (
        "D3",
        "a watched table shows its tail",
        &[
            "cli::listening::a_watched_table_that_is_longer_than_the_screen_has_pages_which_enter_turns_and_keeps_its_head",
        ],
    ),
    (
        "D4",
        "one name a command",
        &["cli::several::a_command_takes_several_names_patterns_and_those_that_failed"],
    ),
    (
        "D5",
        "escape codes in a pipe",
        &[
            "cli::listening::a_watched_table_shows_a_change_when_it_happens",
            "cli::status::a_pipe_gets_no_escape_codes_and_a_terminal_does_unless_no_color_is_set",
        ],
    ),
    (
        "D6",
        "words of other programs are refused",
        &["cli::habits::each_command_that_the_page_of_habits_names_works"],
    ),
    (
        "D7",
        "a tip that leads astray",
        &[
            "gatevisor/src::usage_error::what_other_programs_call_it_leads_to_what_it_is_called_here",
            "gatevisor/src::usage_error::only_what_is_near_is_suggested",
        ],
    ),
    (
        "D8",
        "no name is completed",
        &["cli::completion::names_of_profiles_are_completed_on_the_home_that_the_line_names"],
    ),
    (
        "D9",
        "wait demands one of its options and hides the others",
        &["cli::listening::wait_without_an_option_waits_until_it_is_up_and_its_help_names_all"],
    ),
    (
        "D10",
        "logs of nobody are not there yet",
        &["cli::logs::logs_of_nobody_and_of_a_wrong_number_are_refused"],
    ),
    (
        "D11",
        "-1 and NA in JSON",
        &["cli::status::what_both_tell_is_what_s6_svstat_tells_and_what_there_is_none_of_is_null"],
    ),
    (
        "D12",
        "a probe that hangs up in the middle",
        &[
            "gateways/src/live::probe::an_answer_is_read_to_its_end_so_that_no_server_complains_of_who_hangs_up",
            "slot/src::probe::a_server_whose_answer_is_long_is_not_hung_up_on",
        ],
    ),
    (
        "D13",
        "what an agent writes reaches the terminal as it is",
        &["cli::output::nothing_that_an_agent_writes_commands_a_terminal_or_hides_in_it"],
    ),
    (
        "F1",
        "no configuration in a new home, and none migrated",
        &[
            "container::whole::a_new_home_has_a_configuration_of_today_a_file_for_secrets_and_a_soul",
            "container::whole::an_old_configuration_is_migrated_at_boot_and_the_old_file_is_kept",
        ],
    ),
    (
        "F2",
        "a foreign user is refused in other words and with another code",
        &["container::starting::any_user_without_a_writable_home_is_told_what_to_do"],
    ),
    ("F3", "tini is not init", &["container::image::the_image_has_what_the_unmodified_command_looks_for"]),
    (
        "F4",
        "no skills and no licence",
        &[
            "container::whole::the_skills_of_hermes_are_in_the_image_and_in_a_new_home_and_what_the_user_removed_stays_away",
        ],
    ),
];

/// Returns whether a file below `directory` has a test of this name.
pub fn exists(directory: &Path, test: &str) -> bool {
    let mut parts = test.split("::");
    let (suite, module, name) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let file = match suite {
        _ if suite.contains('/') => directory.join("crates").join(suite).join(format!("{module}.rs")),
        "slot" | "doctor" => directory.join("crates").join(suite).join("tests").join(format!("{module}.rs")),
        _ => directory.join("tests").join(suite).join(format!("{module}.rs")),
    };
    let head = format!("fn {name}()");
    let is_test = |text: String| {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        lines
            .windows(2)
            .any(|two| matches!(two, [first, second] if *first == "#[test]" && second.starts_with(&head)))
    };
    fs::read_to_string(&file).is_ok_and(is_test)
}

/// How many faults of each kind were found, and those of them that are left.
const FOUND: [(char, usize); 5] = [('A', 14), ('B', 6), ('C', 17), ('D', 13), ('F', 4)];
/// C13: how many services a limit of open files allows is measured, and no promise.
const LEFT: &[&str] = &["C13"];

#[test]
fn no_fault_is_forgotten() {
    for (kind, count) in FOUND {
        for number in (1..=count).map(|number| format!("{kind}{number}")) {
            let is_tested = FAULTS.iter().any(|(known, ..)| *known == number);
            assert_ne!(is_tested, LEFT.contains(&number.as_str()), "{number}");
        }
    }
}

#[test]
fn each_fault_that_was_found_has_a_test_that_exists() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (number, words, tests) in FAULTS {
        assert!(!tests.is_empty() && !words.is_empty());
        for test in *tests {
            assert!(exists(&tree, test), "{number}, {words}: there is no test `{test}`");
        }
    }
}
