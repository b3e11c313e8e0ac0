// The page of Gatevisor. Everything comes from api/v1; every text is put in as text, never as HTML.

const $ = (id) => document.getElementById(id);
const state = { role: null, home: null, view: null, histories: new Map(), stale: null, drawn: "", stop: () => {} };
const BAD = ["failed", "failed-to-start", "unresponsive", "backing-off", "unknown"];
const GOOD = ["ready", "live", "up", "served"];

// --- elements ---------------------------------------------------------------------------------

/** Makes an element: h("p.note", {title: "x"}, "text", element). */
function h(kind, properties, ...children) {
  const [tag, ...classes] = kind.split(".");
  const made = document.createElement(tag || "div");
  if (classes.length) made.className = classes.join(" ");
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && name !== "list") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** Makes an element of a drawing. A value that is nothing is left out. */
function drawn(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined) made.setAttribute(name, value);
  made.append(...children.flat(9).filter(Boolean));
  return made;
}

/** Replaces what is in an element. What has the same key keeps the focus, and stays open. */
function fill(target, ...children) {
  const key = target.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const open = [...target.querySelectorAll("details[open][data-key]")].map((one) => one.dataset.key);
  target.replaceChildren(...children.flat(9).filter((child) => child));
  for (const one of target.querySelectorAll("details[data-key]")) one.open = open.includes(one.dataset.key);
  if (key) target.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

function toast(text, isBad) {
  const made = h("div.toast" + (isBad ? ".bad" : ""), {}, text);
  $("toasts").append(made);
  setTimeout(() => made.remove(), isBad ? 12000 : 5000);
}

// --- words ------------------------------------------------------------------------------------

const words = (text) => String(text).replaceAll("-", " ");

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const s = Math.floor(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

function bytes(count) {
  if (count === null || count === undefined) return "–";
  if (count < 1e6) return `${Math.round(count / 1e3)} kB`;
  return count < 1e9 ? `${Math.round(count / 1e6)} MB` : `${(count / 1e9).toFixed(1)} GB`;
}

function moment(at) {
  const time = new Date(at);
  if (Number.isNaN(time.getTime())) return String(at);
  const day = time.toDateString() === new Date().toDateString() ? "" : time.toLocaleDateString([], { day: "numeric", month: "short" }) + " ";
  return day + time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
}

const timeElement = (at) => h("time.time", { dateTime: at || "", title: at || "" }, at ? moment(at) : "");
const name = (gateway) => gateway.profile || gateway.service;

/** What is so of a gateway for people: its liveness, if it is known, or else its state. */
function stateOf(gateway) {
  const live = gateway.live && (gateway.live.state || gateway.live.word);
  const known = gateway.state;
  if (BAD.includes(known) || !gateway.up || gateway.drain) return known;
  return live && live !== "up" ? live : known;
}

function kindOf(gateway) {
  const of = stateOf(gateway);
  if (BAD.includes(of)) return "bad";
  if (GOOD.includes(of)) return "good";
  if (of === "down") return gateway.desired_state === "running" ? "bad" : "idle";
  return "warn";
}

const badge = (gateway) => h(`span.state.${kindOf(gateway)}`, {}, words(stateOf(gateway)));
const RANK = { bad: 0, warn: 1, good: 2, idle: 3 };
const sorted = (all) => [...all].sort((a, b) => RANK[kindOf(a)] - RANK[kindOf(b)] || name(a).localeCompare(name(b)));

function lastExit(gateway) {
  const death = (gateway.deaths || []).reduce((last, other) => (last && last.at > other.at ? last : other), null);
  if (!death) return null;
  const how = death.signal ? death.signal : `exit ${death.exitcode}`;
  return { how, meaning: death.meaning, at: death.at };
}

/** How far a drain is. */
function drainOf({ turns, left_ms, then, reason }) {
  const known = turns !== null && turns !== undefined;
  return [known && `${turns} ${turns === 1 ? "turn" : "turns"} left`, reason, left_ms != null && `at most ${duration(left_ms / 1000)} more`,
    then !== "nothing" && `then ${then}`].filter(Boolean).join(", ");
}

function whyOf(gateway) {
  if (gateway.drain) return drainOf(gateway.drain);
  const wait = gateway.next_start_in_ms;
  const again = wait === null || wait === undefined ? "" : ` (again in ${duration(wait / 1000)})`;
  return (gateway.reason || gateway.problem || gateway.log_problem || "") + again;
}

function summary(all) {
  const counts = new Map();
  for (const gateway of sorted(all)) counts.set(words(stateOf(gateway)), (counts.get(words(stateOf(gateway))) || 0) + 1);
  const parts = [...counts].map(([word, count]) => `${count} ${word}`);
  return `${all.length} ${all.length === 1 ? "gateway" : "gateways"}${parts.length ? ": " + parts.join(", ") : ""}`;
}

// --- the API ----------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, text) { super(text); this.status = status; }
}

// A browser sends a cookie to every port of an address. What this page keeps, no other port gets.
const KEY = "gatevisor-key:" + location.pathname;
let kept = null;

function pageKey() {
  try { return localStorage.getItem(KEY) || ""; } catch { return kept || ""; }
}

function keepKey(key) {
  kept = key;
  try { if (key) localStorage.setItem(KEY, key); else localStorage.removeItem(KEY); } catch { /* It lasts as long as this page. */ }
}

const withKey = () => ({ "X-Gatevisor-Key": pageKey() });

async function api(path, method = "GET", body) {
  let answer;
  try {
    answer = await fetch("api/v1/" + path, { method, headers: withKey(), body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Refused(0, "the server does not answer");
  }
  const object = await answer.json().catch(() => ({}));
  if (answer.ok) return object;
  if (answer.status === 401 && path !== "login") showLogin();
  throw new Refused(answer.status, object.error || `the server answered ${answer.status}`);
}

const of = (profile, rest = "") => `gateways/${encodeURIComponent(profile)}${rest}`;

/** Does something and says how it ended. Returns whether it was done. */
async function act(what, path, method, body) {
  try {
    const answer = await api(path, method, body);
    toast(`${what}: ${answer.result || "done"}`);
    return true;
  } catch (error) {
    toast(`${what}: ${error.message}`, true);
    return false;
  }
}

// --- what happens -----------------------------------------------------------------------------

/** The server says something every 15 seconds. */
const SILENCE = 40000;
const pause = (time) => new Promise((done) => setTimeout(done, time));

/** Calls `on.message` with each message of a stream, and begins it again where it was until the
 *  returned function is called. An EventSource could not show the key. */
function receive(path, on) {
  let attempt = null, isStopped = false, last = null, wait = 500;
  function take(text) {
    const fields = new Map(text.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
    if (!fields.has("data")) return;
    if (fields.has("id")) last = fields.get("id");
    on.message(fields.get("event"), JSON.parse(fields.get("data")));
  }
  async function read(answer, isAlive) {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ;) {
      const { done, value } = await reader.read();
      if (done || isStopped) return;
      isAlive();
      const all = (text + value).split("\n\n");
      text = all.pop();
      all.forEach(take);
    }
  }
  async function once() {
    attempt = new AbortController();
    const own = attempt;
    let timer = setTimeout(() => own.abort(), SILENCE);
    const isAlive = () => { clearTimeout(timer); timer = setTimeout(() => own.abort(), SILENCE); };
    try {
      const headers = last === null ? withKey() : { ...withKey(), "Last-Event-ID": last };
      const answer = await fetch("api/v1/" + path, { headers, signal: own.signal });
      if (!answer.ok) throw new Refused(answer.status, (await answer.json().catch(() => ({}))).error || `the server answered ${answer.status}`);
      wait = 500;
      on.open?.();
      await read(answer, isAlive);
    } finally {
      clearTimeout(timer);
    }
  }
  (async () => {
    while (!isStopped) {
      try {
        await once();
      } catch (error) {
        if (isStopped) return;
        if (error.status === 401) return showLogin();
        on.lost(error.status ? error.message : null);
        // What is wrong with the question stays wrong.
        if (error.status === 400 || error.status === 404) return;
        wait = Math.min(wait * 2, 10000);
      }
      await pause(wait);
    }
  })();
  return () => { isStopped = true; attempt?.abort(); };
}

let stopEvents = () => {};

function listen() {
  stopEvents();
  stopEvents = receive("events", {
    // After a break, histories may be older than the server's.
    open: () => { if (state.stale) window.dispatchEvent(new CustomEvent("sampled")); setStale(null); },
    message: (kind, told) => {
      if (kind === "history") return window.dispatchEvent(new CustomEvent("sampled"));
      if (kind !== "home") return window.dispatchEvent(new CustomEvent("happened"));
      if (told.error) return setStale(new Date(), told.error);
      setStale(null);
      state.view = told;
      draw();
    },
    lost: (why) => setStale(state.stale || new Date(), why && `${why}; trying again`),
  });
}

function setStale(since, why) {
  const is = Boolean(since);
  if (is === Boolean(state.stale) && !why) return;
  state.stale = since;
  $("stale").textContent = is ? `Stale since ${moment(since)}: ${why || "the server cannot be reached; trying again"}` : "";
  document.body.classList.toggle("is-stale", is);
}

// --- dialogs ----------------------------------------------------------------------------------

function ask(title, parts, confirm, isDanger, onConfirm) {
  const dialog = $("dialog");
  const problem = h("p.error-text", { role: "alert" });
  const button = h("button.main" + (isDanger ? ".danger" : ""), { type: "submit" }, confirm);
  const form = h("form", {
    onsubmit: async (event) => {
      event.preventDefault();
      button.disabled = true;
      const why = await onConfirm(new FormData(form));
      button.disabled = false;
      if (why) problem.textContent = why; else dialog.close();
    },
  }, parts, problem, h("div.end", {}, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), button));
  dialog.replaceChildren(h("h2", { id: "dialog-title" }, title), form);
  dialog.showModal();
  (form.querySelector("input, textarea") || form.querySelector("button")).focus();
}

function askControl(profile, verb) {
  const says = {
    stop: "It stays stopped, also after a restart of the supervisor, until somebody starts it. What it does now is broken off.",
    restart: "What it does now is broken off. Drain it instead if it shall end its work first.",
  }[verb];
  ask(`${verb === "stop" ? "Stop" : "Restart"} ${profile}?`, [
    h("p.note", {}, says),
    h("label", {}, "Why (for the record)", h("input", { name: "reason", maxLength: 300, autocomplete: "off" })),
  ], verb === "stop" ? "Stop" : "Restart", verb === "stop", async (data) => {
    act(`${profile}: ${verb}`, of(profile, "/" + verb), "POST", { reason: data.get("reason") || null });
  });
}

function askDrain(profile) {
  ask(`Drain ${profile}?`, [
    h("p.note", {}, "It takes no new work and ends what is under way."),
    h("label", {}, "For at most", h("input", { name: "for", value: "5m", required: true, autocomplete: "off" })),
    h("label", {}, "Then", h("select", { name: "then" }, ["stop", "restart", "nothing"].map((word) => h("option", { value: word }, word)))),
  ], "Drain", false, async (data) => {
    act(`${profile}: drain`, of(profile, "/drain"), "POST", { for: data.get("for"), then: data.get("then") });
  });
}

function askDelete(gateway) {
  const profile = gateway.profile;
  ask(`Delete ${profile}?`, [
    h("p", {}, `Lost are: its gateway${gateway.pid ? ` (process ${gateway.pid}, which is stopped)` : ""}, its directory with settings, secrets and data, its logs, and its incidents. Nothing brings them back.`),
    h("label", {}, `Type ${profile} to confirm`, h("input", { name: "name", required: true, autocomplete: "off", autocapitalize: "none", spellcheck: false })),
  ], "Delete for ever", true, async (data) => {
    if (data.get("name") !== profile) return `This is not ${profile}.`;
    if (await act(`${profile}: delete`, `profiles/${encodeURIComponent(profile)}`, "DELETE")) location.hash = "#/";
  });
}

function askCreate() {
  ask("Create a profile", [
    h("label", {}, "Name", h("input", { name: "name", required: true, autocomplete: "off", autocapitalize: "none", spellcheck: false })),
    h("label", {}, "Port (a number, auto, or nothing)", h("input", { name: "port", value: "auto", autocomplete: "off" })),
    h("label", {}, "Variables, NAME=VALUE on each line", h("textarea", { name: "env", rows: 3, spellcheck: false, autocomplete: "off" })),
    h("label.check", {}, h("input", { type: "checkbox", name: "start", checked: true }), "Start it"),
  ], "Create", false, async (data) => {
    const made = data.get("name").trim();
    try {
      await api("profiles", "POST", { name: made, port: data.get("port").trim() || null, env: data.get("env") || null, start: data.has("start") });
      toast(`${made}: created`);
      location.hash = `#/gateway/${encodeURIComponent(made)}`;
      return null;
    } catch (error) {
      return error.message;
    }
  });
}

// --- the last 24 hours ------------------------------------------------------------------------

/** From where to where a kind of state reaches in a strip that is 10 high: what is bad stands out
 *  whatever colours somebody sees. */
const REACH = { good: [2, 6], warn: [1, 8], bad: [0, 10], idle: [4, 2] };

/** Draws states of equal length one after the other. Where none is recorded, nothing is drawn. */
function strip(kinds, summary, titles) {
  const runs = [];
  kinds.forEach((kind, at) => {
    const last = runs.at(-1);
    if (last && last.kind === kind && !titles) last.width += 1;
    else runs.push({ kind, at, width: 1 });
  });
  const parts = runs.filter((run) => run.kind).map(({ kind, at, width }) => drawn("rect",
    { class: kind, x: at, y: REACH[kind][0], width, height: REACH[kind][1] }, titles && drawn("title", {}, titles[at])));
  const named = summary ? { role: "img", "aria-label": summary } : { "aria-hidden": "true" };
  return drawn("svg", { class: "strip", viewBox: `0 0 ${kinds.length || 1} 10`, preserveAspectRatio: "none", ...named }, parts);
}

/** Draws values one after the other. A value that is not known is a gap. */
function plot(values, title, words) {
  const known = values.filter((value) => value !== null);
  const most = Math.max(...known, 0);
  const said = known.length ? `${words(known.at(-1))}, at most ${words(most)}` : "nothing is recorded yet";
  const y = (value) => (38 - (most ? (value / most) * 36 : 0)).toFixed(1);
  const runs = [];
  values.forEach((value, at) => {
    if (value === null) return;
    if (!at || values[at - 1] === null) runs.push([]);
    runs.at(-1).push([at, value]);
  });
  const line = (run) => run.map(([at, value]) => `L${at} ${y(value)}L${at + 1} ${y(value)}`).join("").slice(1);
  const areas = runs.map((run) => drawn("path", { class: "area", d: `M${run[0][0]} 40L${line(run)}V40Z` }));
  const lines = runs.map((run) => drawn("path", { class: "line", d: `M${line(run)}` }));
  const picture = drawn("svg", { class: "plot", viewBox: `0 0 ${values.length || 1} 40`, preserveAspectRatio: "none", role: "img", "aria-label": `${title} in the last 24 hours: ${said}` }, areas, lines);
  return h("figure", {}, h("figcaption", {}, h("strong", {}, title), h("span.note", {}, said)), picture);
}

const percent = (permille) => (permille < 100 ? `${(permille / 10).toFixed(1)} %` : `${Math.round(permille / 10)} %`);

function historyPanel(profile) {
  const panel = h("section.card.wide.history", { "aria-label": "Last 24 hours", id: "history" });
  const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  function show(history) {
    const begin = (at) => history.from_s + at * history.step_seconds;
    const titles = history.states.map((word, at) => `${clock(begin(at))}: ${word ? words(word) : "not recorded"}`);
    fill(panel, h("h2", {}, "Last 24 hours"), strip(history.kinds, history.summary, titles),
      h("div.ends", { "aria-hidden": true }, h("span", {}, "24 h ago"), h("span", {}, "now")), h("p.note", {}, history.summary.replace("last 24 hours: ", "")),
      h("div.plots", {}, plot(history.cpu_permille, "CPU", percent), plot(history.memory_bytes, "Memory", bytes)));
  }
  const load = () => api(of(profile, "/history")).then(show, () => {});
  // It has its height from the beginning, so that nothing moves when the answer comes.
  show({ from_s: 0, step_seconds: 300, states: [], kinds: [], cpu_permille: [], memory_bytes: [], summary: "" });
  window.addEventListener("sampled", load);
  load();
  return { panel, stop: () => window.removeEventListener("sampled", load) };
}

// --- views ------------------------------------------------------------------------------------

const full = () => state.role === "full";

function listView(main) {
  const filter = h("input.filter", { type: "search", placeholder: "Filter", "aria-label": "Filter gateways by name or state", oninput: () => update() });
  const list = h("ul.list", { "aria-label": "Gateways" });
  const line = h("p.summary", { id: "summary", role: "status" });
  const supervisor = h("p.error-text", { role: "alert", hidden: true });
  fill(main, h("div.head", {},
    h("div", {}, h("h1", {}, "Gateways"), line, supervisor),
    h("div.actions", {}, filter, full() && h("button.main", { type: "button", id: "create", onclick: askCreate }, "Create profile"))), list);
  const past = (gateway) => {
    const history = state.histories.get(name(gateway));
    return strip(history?.kinds || [], history?.summary);
  };
  const load = () => api("history").then((all) => {
    state.histories = new Map(all.gateways.map((one) => [one.name, one]));
    update();
  }, () => {});
  function update() {
    const view = state.view;
    if (!view) return fill(list, h("li.empty", {}, "Loading…"));
    const runs = view.supervisor && view.supervisor.pid !== null;
    supervisor.hidden = runs;
    supervisor.textContent = runs ? "" : `No supervisor runs: ${view.supervisor?.reason || "gatevisor up starts one"}`;
    const text = summary(view.gateways);
    if (line.textContent !== text) line.textContent = text;
    const wanted = filter.value.trim().toLowerCase();
    const shown = sorted(view.gateways).filter((gateway) => `${name(gateway)} ${words(stateOf(gateway))}`.toLowerCase().includes(wanted));
    const titles = h("li.row.titles", { "aria-hidden": true }, h("span", {}, "Name"), h("span", {}, "State"), h("span.past", {}, "Last 24 h"), h("span.why", {}, "Reason"),
      ["Uptime", "Restarts", "Memory", "CPU time"].map((title) => h("span.number", {}, title)));
    const rows = shown.map((gateway) => h("li", {}, h("a.row", { href: `#/gateway/${encodeURIComponent(name(gateway))}`, "data-key": name(gateway) },
      h("span.name", {}, name(gateway)), badge(gateway), h("span.past", {}, past(gateway)), h("span.why", { title: whyOf(gateway) }, whyOf(gateway)),
      h(`span.number.kept${gateway.up ? "" : ".none"}`, {}, gateway.up ? h("span.hidden-label", {}, "up for ") : null, gateway.up ? duration(gateway.updownfor) : "–"),
      h("span.number", {}, h("span.hidden-label", {}, "restarts: "), String(gateway.restarts ?? "–")),
      h("span.number", {}, h("span.hidden-label", {}, "memory: "), bytes(gateway.memory_bytes)),
      h("span.number", {}, h("span.hidden-label", {}, "processor time: "), gateway.cpu_ms === null || gateway.cpu_ms === undefined ? "–" : duration(gateway.cpu_ms / 1000)))));
    fill(list, shown.length ? [titles, rows] : h("li.empty", {}, view.gateways.length ? "No gateway matches." : "There is no profile yet."));
  }
  update();
  window.addEventListener("sampled", load);
  load();
  return { update, stop: () => window.removeEventListener("sampled", load) };
}

function commandLine(text) {
  const button = h("button", { type: "button", onclick: async () => {
    try { await navigator.clipboard.writeText(text); toast("Copied"); } catch { toast("The browser does not allow copying", true); }
  } }, "Copy");
  button.setAttribute("aria-label", `Copy the command ${text}`);
  return h("div.command", {}, h("code", {}, text), button);
}

const finding = (found) => h("li", {}, h("strong", {}, found.what), h("span.note", {}, found.why || ""), found.fix ? commandLine(found.fix) : null);

function timelineItems(entries, withName) {
  return h("ul.items", {}, entries.map((entry) => h("li.when", {}, timeElement(entry.at), h("span", {},
    withName && entry.profile ? [h("a", { href: `#/gateway/${encodeURIComponent(entry.profile)}` }, entry.profile), " "] : null, words(entry.what),
    h("span.note", {}, [entry.who && `by ${entry.who}`, entry.command && `with ${entry.command}`, entry.why].filter(Boolean).join(" · "))))));
}

function logPanel(profile) {
  const box = h("div.log", { tabIndex: 0, role: "log", "aria-label": `Log of ${profile}`, "aria-live": "off" });
  const search = h("input", { type: "search", id: "log-search", placeholder: "Search (regular expression)", "aria-label": "Search the log" });
  const pause = h("button", { type: "button", "aria-pressed": "false" }, "Pause");
  const problem = h("p.error-text", { role: "alert", id: "log-problem" });
  let stop = () => {}, timer = null, paused = false;
  const level = (text) => (/\b(error|fatal|panic|critical|traceback|exception)\b/i.test(text) ? "error" : /\bwarn(ing)?\b/i.test(text) ? "warning" : "");
  function marked(text) {
    let wanted;
    try { wanted = search.value && new RegExp(search.value, "gi"); } catch { wanted = null; }
    if (!wanted) return [text];
    const parts = [];
    let at = 0;
    for (const found of text.matchAll(wanted)) {
      if (!found[0]) break;
      parts.push(text.slice(at, found.index), h("mark", {}, found[0]));
      at = found.index + found[0].length;
    }
    return [...parts, text.slice(at)];
  }
  function follow() {
    stop();
    box.replaceChildren();
    problem.textContent = "";
    const query = search.value ? `&grep=${encodeURIComponent(search.value)}` : "";
    stop = receive(`${of(profile, "/log/stream")}?lines=300${query}`, {
      open: () => { problem.textContent = ""; },
      message: (kind, line) => add(line),
      lost: (why) => { problem.textContent = why || "the server cannot be reached; trying again"; },
    });
  }
  function add(line) {
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    const time = line.time ? new Date(line.time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }) : "";
    box.append(h("div" + (level(line.text) ? "." + level(line.text) : ""), {}, h("time", { title: line.time || "" }, time), h("span", {}, marked(line.text))));
    while (box.childElementCount > 2000) box.firstElementChild.remove();
    if (atEnd && !paused) box.scrollTop = box.scrollHeight;
  }
  search.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(follow, 250); });
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Go on" : "Pause";
    if (!paused) box.scrollTop = box.scrollHeight;
  });
  follow();
  const panel = h("section.card.wide", { "aria-label": "Log" }, h("div.log-tools", {}, h("h2", {}, "Log"), search, pause), problem, box);
  return { panel, stop: () => { clearTimeout(timer); stop(); } };
}

function incidentItem(profile, incident) {
  const files = (incident.parts || []).map((part) => {
    const text = h("pre", { tabIndex: 0 }, "Loading…");
    const path = of(profile, `/incidents/${encodeURIComponent(incident.id)}/files/${encodeURIComponent(part.file)}`);
    return h("details", { "data-key": `${incident.id}/${part.file}`, ontoggle: (event) => {
      if (event.target.open) api(path).then((file) => { text.textContent = file.text || "It is empty."; }, (error) => { text.textContent = error.message; });
    } }, h("summary", {}, part.file), text);
  });
  return h("li", {}, h("details", { "data-key": incident.id }, h("summary", {}, moment(incident.at), " · ", incident.reason), files));
}

function detailView(main, profile) {
  const head = h("div");
  const facts = h("section.card.wide", { "aria-label": "State" });
  const explain = h("section.card", { "aria-label": "Why" });
  const doctor = h("section.card", { "aria-label": "Findings" });
  const incidents = h("section.card", { "aria-label": "Incidents" });
  const timeline = h("section.card", { "aria-label": "Timeline" });
  const log = logPanel(profile);
  const history = historyPanel(profile);
  fill(main, h("a.crumb", { href: "#/" }, "← All gateways"), head, h("div.grid", {}, facts, history.panel, explain, doctor, log.panel, incidents, timeline));
  const find = () => state.view?.gateways.find((gateway) => name(gateway) === profile);
  let buttons = "";
  function drawHead(gateway) {
    const control = (label, verb, ask) => h("button", { type: "button", "data-key": verb, id: `do-${verb}`, onclick: ask }, label);
    const runs = gateway.wantedup || gateway.up;
    const shape = `${runs} ${Boolean(gateway.drain)} ${full()} ${gateway.profile} ${words(stateOf(gateway))} ${kindOf(gateway)}`;
    if (shape === buttons) return;
    buttons = shape;
    const start = () => act(`${profile}: start`, of(profile, "/start"), "POST", {});
    const cancel = () => act(`${profile}: cancel the drain`, of(profile, "/drain"), "POST", { cancel: true });
    const actions = full() && gateway.profile ? h("div.actions", {},
      runs ? [control("Stop", "stop", () => askControl(profile, "stop")), control("Restart", "restart", () => askControl(profile, "restart")), gateway.drain ? control("Cancel drain", "cancel", cancel) : control("Drain", "drain", () => askDrain(profile))]
        : control("Start", "start", start),
      profile !== "default" && h("button.danger", { type: "button", id: "do-delete", "data-key": "delete", onclick: () => askDelete(find() || gateway) }, "Delete")) : null;
    fill(head, h("div.head", {}, h("div", {}, h("h1", {}, profile), h("p.summary", { role: "status", id: "detail-state" }, badge(gateway))), actions));
  }
  function drawFacts(gateway) {
    const exit = lastExit(gateway);
    const pairs = [["Uptime", gateway.up ? duration(gateway.updownfor) : "–"], ["Process", gateway.pid ?? "–"], ["Restarts", gateway.restarts ?? "–"],
      ["Memory", bytes(gateway.memory_bytes)], ["CPU time", gateway.cpu_ms == null ? "–" : duration(gateway.cpu_ms / 1000)],
      ["Last exit", exit ? exit.how : "–"], ["Wanted", gateway.desired_state || "nothing recorded"]];
    fill(facts, h("dl.facts", {}, pairs.map(([title, value]) => h("div", {}, h("dt", {}, title), h("dd", {}, String(value))))),
      whyOf(gateway) ? h("p.reason", {}, whyOf(gateway)) : null,
      exit ? h("p.note", {}, `Last exit: ${moment(exit.at)}, ${exit.how}${exit.meaning ? ` (${exit.meaning})` : ""}`) : null);
  }
  function part(section, title, load) {
    if (!section.childElementCount) fill(section, h("h2", {}, title), h("p.note", {}, "Loading…"));
    load().then((content) => fill(section, h("h2", {}, title), content), (error) => fill(section, h("h2", {}, title), h("p.note", {}, error.message)));
  }
  function more() {
    part(explain, "Why", async () => {
      const said = await api(of(profile, "/explain"));
      const causes = said.causes.map((cause) => h("li", {}, h("strong", {}, cause.what), h("span.note", {}, cause.evidence || "")));
      return [causes.length ? h("ul.items", {}, causes) : h("p.note", {}, "Nothing is wrong that is known."), said.commands.map(commandLine)];
    });
    part(doctor, "Findings of doctor", async () => {
      const all = (await api("doctor")).findings.filter((found) => found.profile === profile);
      return all.length ? h("ul.items", {}, all.map(finding)) : h("p.note", {}, "There are none.");
    });
    part(incidents, "Incidents", async () => {
      const all = (await api(of(profile, "/incidents"))).incidents;
      return all.length ? h("ul.items", {}, all.slice(0, 20).map((incident) => incidentItem(profile, incident))) : h("p.note", {}, "There are none. Evidence is collected when a gateway does not work.");
    });
    part(timeline, "Timeline", async () => {
      const all = (await api("timeline")).entries.filter((entry) => entry.profile === profile);
      return all.length ? timelineItems(all.slice(0, 30), false) : h("p.note", {}, "Nothing is recorded.");
    });
  }
  let seen = "";
  function update() {
    const gateway = find();
    if (!gateway) {
      if (state.view) fill(head, h("div.head", {}, h("h1", {}, profile), h("p.note", {}, "There is no such gateway.")));
      buttons = "";
      return;
    }
    drawHead(gateway);
    drawFacts(gateway);
    // The other parts are asked for anew only if something has happened to it.
    const now = [gateway.state, gateway.pid, gateway.desired_at, stateOf(gateway), gateway.restarts, Boolean(gateway.drain)].join(" ");
    if (now !== seen) { seen = now; more(); }
  }
  update();
  return { update, stop: () => { log.stop(); history.stop(); } };
}

function simpleView(main, title, load) {
  const body = h("div.card", { "aria-live": "polite" }, h("p.note", {}, "Loading…"));
  const again = () => load().then((content) => fill(body, content), (error) => fill(body, h("p.error-text", {}, error.message)));
  fill(main, h("div.head", {}, h("h1", {}, title), h("button", { type: "button", onclick: again }, "Look again")), body);
  again();
  return { update: () => {}, again };
}

const VIEWS = {
  doctor: (main) => simpleView(main, "Doctor", async () => {
    const all = (await api("doctor")).findings;
    return all.length ? h("ul.items", {}, all.map(finding)) : h("p.note", {}, "Nothing is wrong.");
  }),
  timeline: (main) => {
    const view = simpleView(main, "Timeline", async () => timelineItems((await api("timeline")).entries, true));
    let timer;
    const later = () => { clearTimeout(timer); timer = setTimeout(view.again, 600); };
    window.addEventListener("happened", later);
    return { ...view, stop: () => { clearTimeout(timer); window.removeEventListener("happened", later); } };
  },
  "boot-log": (main) => simpleView(main, "Boot log", async () => h("pre", { tabIndex: 0 }, (await api("boot-log")).lines.join("\n") || "It is empty.")),
};

// --- the frame --------------------------------------------------------------------------------

let current = null;

function draw() { current?.update(); }

function route() {
  if (!state.role) return;
  current?.stop?.();
  const [, word, rest] = location.hash.split("/");
  const main = $("main");
  if (word === "gateway" && rest) current = detailView(main, decodeURIComponent(rest));
  else if (Object.hasOwn(VIEWS, word)) current = VIEWS[word](main);
  else current = listView(main);
  document.title = `${main.querySelector("h1")?.textContent || "Gateways"} · Gatevisor`;
  for (const link of $("views").children) {
    if (link.hash === (location.hash || "#/")) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  window.scrollTo(0, 0);
}

function showLogin(why) {
  current?.stop?.();
  current = null;
  stopEvents();
  setStale(null);
  state.role = null;
  $("views").hidden = $("logout").hidden = true;
  const input = h("input", { id: "token", type: "password", autocomplete: "off", required: true });
  const problem = h("p.error-text", { role: "alert", id: "login-error" }, why || "");
  const form = h("form", { onsubmit: async (event) => {
    event.preventDefault();
    problem.textContent = "";
    // Of a whole link, the token is what counts.
    const why = await login(input.value.trim().split("#token=").pop());
    if (why) { problem.textContent = why; input.select(); }
  } }, h("label", {}, "Link or token", input), problem, h("div.end", {}, h("button.main", { type: "submit" }, "Log in")));
  fill($("main"), h("section.card.login", {}, h("h1", {}, "Log in"), h("p.note", {}, "This command prints a link that works once:"), commandLine("gatevisor web --link"), form));
  document.title = "Log in · Gatevisor";
  input.focus();
}

async function login(token) {
  try {
    const session = await api("login", "POST", { token });
    keepKey(session.key);
    state.role = session.role;
  } catch (error) {
    return error.message;
  }
  await begin();
  return null;
}

async function begin() {
  $("views").hidden = $("logout").hidden = false;
  api("home").then((home) => { $("where").textContent = home.home; $("where").title = `${home.agent}, Gatevisor ${home.version}`; }, () => {});
  route();
  listen();
}

async function open() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    // Nobody who sees the address later shall see the token.
    history.replaceState(null, "", location.pathname);
    const why = await login(token);
    if (!why) return;
    return showLogin(why);
  }
  try {
    state.role = (await api("session")).role;
    await begin();
  } catch (error) {
    if (error.status !== 401) showLogin(error.message);
  }
}

window.addEventListener("hashchange", () => { if (location.hash.startsWith("#token=")) open(); else route(); });
window.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.matches("input, textarea, select") && !$("dialog").open) {
    const field = document.querySelector("main input[type=search]");
    if (field) { event.preventDefault(); field.focus(); }
  }
});
$("logout").addEventListener("click", async () => { await api("logout", "POST").catch(() => {}); keepKey(null); showLogin(); });
open();
