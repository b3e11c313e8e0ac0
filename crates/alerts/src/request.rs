//! *Lives here:* the program, its arguments and its input, which send a message to a destination.
//!
//! *Does not live here:* running it.
//!
//! An address goes to curl through its standard input, because every user can read command lines.
//!
//! **Source:** the manuals of ntfy (publishing), Slack (incoming webhooks), Discord (execute
//! webhook), Telegram (sendMessage), curl (`--config`) and sendmail; RFC 5322.

use serde_json::{Value, json};

use crate::message::{AlertMessage, one_line};
use crate::settings::{AlertDestination, Preset, is_url};

/// The most seconds of a whole request, and of connecting.
const REQUEST_S: u32 = 20;
const CONNECT_S: u32 = 10;
/// The most characters of a text in a chat; Discord takes 2000.
const CHAT_TEXT: usize = 1_900;

/// A program that sends one message.
#[derive(Clone, PartialEq, Eq)]
pub struct SendRequest {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its standard input.
    pub input: Vec<u8>,
    /// Additional environment variables.
    pub variables: Vec<(&'static str, String)>,
    /// Whether it prints the status code of an HTTP response.
    pub prints_code: bool,
}

/// Where a message comes from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// What the operator calls the home; messages begin with it.
    pub name: &'a str,
    /// The root directory of the home, as a whole path.
    pub home: &'a str,
    /// Now, in RFC 3339.
    pub at: &'a str,
}

impl AlertDestination {
    /// Returns its name in messages, which has at most the host of its address, and never the
    /// address.
    pub fn label(&self) -> String {
        let word = self.preset.word();
        let host = self.url.as_ref().and_then(|url| host(&url.0));
        match (host, &self.to, self.command.first()) {
            (Some(host), ..) => format!("{word} at {host}"),
            (None, Some(to), _) => format!("{word} to {}", one_line(to, 100)),
            (None, None, Some(program)) => format!("{word} {}", one_line(program, 100)),
            (None, None, None) => word.to_owned(),
        }
    }
}

/// Returns the program that sends a message to a destination. `url` is the first line of its
/// `url-file`, if it has one.
///
/// # Errors
/// There is no usable address.
pub fn request(
    destination: &AlertDestination,
    message: &AlertMessage,
    origin: Origin<'_>,
    url: Option<&str>,
) -> Result<SendRequest, String> {
    let json = || message.json(origin.name, origin.home, origin.at);
    let (title, text) = (message.title(origin.name), message.text());
    let chat: String = format!("{title}\n{text}").chars().take(CHAT_TEXT).collect();
    let body = match destination.preset {
        Preset::Command => return Ok(command(destination, &json(), title, text)),
        Preset::Email => return Ok(mail(destination, &title, &text)),
        Preset::Ntfy => text.clone(),
        Preset::Webhook => json().to_string(),
        Preset::Slack => json!({ "text": for_slack(&chat) }).to_string(),
        Preset::Discord => json!({ "content": chat, "allowed_mentions": { "parse": [] } }).to_string(),
        Preset::Telegram => {
            json!({ "chat_id": destination.chat, "text": chat, "disable_web_page_preview": true }).to_string()
        }
    };
    let told = destination.url.as_ref().map(|url| url.0.as_str()).or(url);
    let url =
        told.filter(|url| is_url(url)).ok_or("its file does not begin with a line that is an address")?;
    let mut headers: Vec<String> = destination.headers.iter().map(|header| header.0.clone()).collect();
    if destination.preset == Preset::Ntfy {
        let (priority, tag) =
            if message.is_bad() { ("high", "warning") } else { ("default", "white_check_mark") };
        headers.extend([format!("Title: {title}"), format!("Priority: {priority}"), format!("Tags: {tag}")]);
    } else {
        headers.push("Content-Type: application/json".to_owned());
    }
    Ok(curl(&whole_url(destination.preset, url), &headers, &body))
}

/// Returns the address with the path that the service needs.
fn whole_url(preset: Preset, url: &str) -> String {
    let method = "/sendMessage";
    let lacks_method = preset == Preset::Telegram && !url.ends_with(method);
    if lacks_method { format!("{}{method}", url.trim_end_matches('/')) } else { url.to_owned() }
}

fn curl(url: &str, headers: &[String], body: &str) -> SendRequest {
    let mut config = String::from("silent\nfail\nglobloff\noutput = \"/dev/null\"\n");
    config.push_str("write-out = \"%{http_code}\"\nproto = \"=http,https\"\nuser-agent = \"gatevisor\"\n");
    let limits = format!("max-time = {REQUEST_S}\nconnect-timeout = {CONNECT_S}\n");
    config.push_str(&limits);
    let mut option = |name: &str, value: &str| {
        let line = format!("{name} = {}\n", quoted(value));
        config.push_str(&line);
    };
    option("url", url);
    for header in headers {
        option("header", &one_line(header, 4_000));
    }
    option("data-raw", body);
    // `-q` comes first, so that no ~/.curlrc counts.
    let argv = ["curl", "-q", "--config", "-"].map(str::to_owned).to_vec();
    SendRequest { argv, input: config.into_bytes(), variables: Vec::new(), prints_code: true }
}

/// Returns a value as curl reads it in a file of options.
fn quoted(value: &str) -> String {
    let mut quoted = String::from("\"");
    for character in value.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\0' => {}
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// Returns a text in which no character has a meaning for Slack.
fn for_slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn command(destination: &AlertDestination, json: &Value, title: String, text: String) -> SendRequest {
    SendRequest {
        argv: destination.command.clone(),
        input: format!("{json}\n").into_bytes(),
        variables: vec![("GATEVISOR_ALERT_TITLE", title), ("GATEVISOR_ALERT_TEXT", text)],
        prints_code: false,
    }
}

fn mail(destination: &AlertDestination, title: &str, text: &str) -> SendRequest {
    let header = |name: &str, value: &str| {
        let plain = |character: char| if character.is_ascii() { character } else { '?' };
        format!("{name}: {}\n", one_line(value, 500).chars().map(plain).collect::<String>())
    };
    let mut mail = header("To", destination.to.as_deref().unwrap_or_default());
    mail.extend(destination.from.as_deref().map(|from| header("From", from)));
    mail.push_str(&header("Subject", title));
    mail.push_str("Auto-Submitted: auto-generated\nMIME-Version: 1.0\n");
    mail.push_str("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n");
    mail.push_str(text);
    mail.push('\n');
    let usual = || ["/usr/sbin/sendmail", "-t", "-i"].map(str::to_owned).to_vec();
    let given = &destination.command;
    let argv = if given.is_empty() { usual() } else { given.clone() };
    SendRequest { argv, input: mail.into_bytes(), variables: Vec::new(), prints_code: false }
}

/// Returns the host of an address, without the rest of it.
fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    (!host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{AlertEvent, AlertProblem, News};
    use crate::settings::AlertSettings;
    use crate::subject::AlertSubject;

    const ORIGIN: Origin<'_> = Origin { name: "nas", home: "/h", at: "2026-01-01T00:00:00Z" };

    fn destination(text: &str) -> AlertDestination {
        let settings = AlertSettings::parse(&format!("[[alerts.to]]\n{text}")).unwrap().unwrap();
        settings.to[0].clone()
    }

    fn failed(reason: &str) -> AlertMessage {
        let subject = AlertSubject::Gateway("coder".to_owned());
        let reason = Some(reason.to_owned());
        AlertMessage {
            news: vec![News { subject, what: AlertEvent::Began(AlertProblem::Failed), reason }],
            left_out: 0,
        }
    }

    fn input(text: &str, reason: &str) -> String {
        let request = request(&destination(text), &failed(reason), ORIGIN, None).unwrap();
        assert!(request.argv.iter().all(|word| !word.contains("secret")), "{:?}", request.argv);
        String::from_utf8(request.input).unwrap()
    }

    #[test]
    fn each_service_receives_what_it_understands() {
        let ntfy = input("kind = \"ntfy\"\nurl = \"https://ntfy.sh/secret\"\n", "exit 78");
        assert!(ntfy.contains("url = \"https://ntfy.sh/secret\"\n"), "{ntfy}");
        assert!(ntfy.contains("header = \"Title: nas: the gateway of coder has failed\"\n"), "{ntfy}");
        assert!(ntfy.contains("data-raw = \"the gateway of coder has failed: exit 78\"\n"), "{ntfy}");
        let slack = input("kind = \"slack\"\nurl = \"https://hooks/secret\"\n", "<b> & \"c\"");
        assert!(
            slack.contains(r#"data-raw = "{\"text\":\"nas: the gateway of coder has failed\\nthe"#),
            "{slack}"
        );
        assert!(slack.contains(r"failed: &lt;b&gt; &amp; \\\"), "{slack}");
        let discord = input("kind = \"discord\"\nurl = \"https://d/secret\"\n", "@everyone");
        assert!(discord.contains(r#"\"allowed_mentions\":{\"parse\":[]}"#), "{discord}");
        let telegram =
            input("kind = \"telegram\"\nurl = \"https://api.telegram.org/botsecret\"\nchat = \"-10\"\n", "x");
        assert!(
            telegram.contains("url = \"https://api.telegram.org/botsecret/sendMessage\"\n"),
            "{telegram}"
        );
        assert!(telegram.contains(r#"\"chat_id\":\"-10\""#), "{telegram}");
        let hook =
            "kind = \"webhook\"\nurl = \"http://h/secret\"\nheaders = [\"Authorization: Bearer secret\"]\n";
        let hook = input(hook, "x");
        assert!(hook.contains("header = \"Authorization: Bearer secret\"\n"), "{hook}");
        assert!(hook.contains(r#"\"event\":\"failed\""#), "{hook}");
    }

    #[test]
    fn nothing_that_an_agent_says_becomes_an_option_or_a_header() {
        let reason = "x\"\nurl = \"http://evil\"\r\nBcc: evil@example\n.\n\\";
        let hook = input("kind = \"ntfy\"\nurl = \"http://h/secret\"\n", reason);
        assert_eq!(hook.lines().filter(|line| line.starts_with("url")).count(), 1, "{hook}");
        let mail = input("kind = \"email\"\nto = \"me@example\"\nfrom = \"a@b\\nBcc: c@d\"\n", reason);
        let head = mail.split_once("\n\n").unwrap().0;
        assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
        assert!(head.starts_with("To: me@example\nFrom: a@b Bcc: c@d\nSubject: nas: "), "{head}");
        assert!(!mail.lines().any(|line| line == "."), "{mail}");
    }

    /// curl refuses longer lines in a file of options.
    const LONGEST_LINE: usize = 100_000;

    #[test]
    fn however_much_is_told_at_once_curl_takes_the_line_with_it() {
        let of = destination("kind = \"webhook\"\nurl = \"http://h/secret\"\n");
        for reason in ["\"\\".repeat(50_000), "\u{1f980}".repeat(50_000), "x".to_owned()] {
            let one = |number| News {
                subject: AlertSubject::Gateway(format!("gateway-{number}")),
                ..failed(&reason).news.remove(0)
            };
            let full = News { subject: AlertSubject::Disk("/\"".repeat(2_000)), ..one(0) };
            let news: Vec<News> = [full].into_iter().chain((0..79).map(one)).collect();
            let message = AlertMessage { news, left_out: 3 };
            let input = request(&of, &message, ORIGIN, None).unwrap().input;
            let longest = input.split(|byte| *byte == b'\n').map(<[u8]>::len).max();
            assert!(longest < Some(LONGEST_LINE), "{longest:?}");
            let json = message.json("nas", "/h", ORIGIN.at);
            let listed = json["alerts"].as_array().unwrap().len();
            assert!(listed > 5, "{listed}");
            assert_eq!(json["left_out"], 80 - listed + 3);
        }
    }

    #[test]
    fn a_command_reads_json_and_finds_the_text_in_variables() {
        let of = destination("kind = \"command\"\ncommand = [\"notify\", \"--now\"]\n");
        let request = request(&of, &failed("exit 78"), ORIGIN, None).unwrap();
        assert_eq!(request.argv, ["notify", "--now"]);
        let json: Value = serde_json::from_slice(&request.input).unwrap();
        assert_eq!(json["alerts"][0]["gateway"], "coder");
        assert_eq!(request.variables[1].1, "the gateway of coder has failed: exit 78");
    }

    #[test]
    fn a_label_has_at_most_the_host_of_an_address() {
        let label = |text: &str| destination(text).label();
        assert_eq!(
            label("kind = \"slack\"\nurl = \"https://u:p@hooks.example/T/secret\"\n"),
            "slack at hooks.example"
        );
        assert_eq!(label("kind = \"ntfy\"\nurl = \"https://h?secret\"\n"), "ntfy at h");
        assert_eq!(label("kind = \"ntfy\"\nurl-file = \"f\"\n"), "ntfy");
        assert_eq!(label("kind = \"email\"\nto = \"me@example\"\n"), "email to me@example");
        assert_eq!(label("kind = \"command\"\ncommand = [\"/bin/x\", \"secret\"]\n"), "command /bin/x");
    }

    #[test]
    fn an_address_of_a_file_must_be_one() {
        let of = destination("kind = \"slack\"\nurl-file = \"f\"\n");
        let send = |url: Option<&str>| request(&of, &failed("x"), ORIGIN, url).map(drop);
        assert_eq!(send(Some("https://h/x")), Ok(()));
        assert!(send(Some("h x")).is_err() && send(None).is_err());
    }
}
