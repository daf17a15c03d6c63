// The page: asks a member what there is, again whenever something changes, and shows it.
// Names come from anybody: they reach the document as text and in no other way.

import { Live, base64, bytes, text, unpack } from "./live.js";

const SYSTEM = 1, EVERYTHING = base64([0]);
const EVENTS_AHEAD = 64, TAIL_MAX = 200, LAG_MAX = 2_000;
const SHOWN_MAX = 200, QUEUE_SHOWN = 20, DETAILS_MAX = 50;
const ASK_AGAIN_MS = 120, STATUS_MS = 2_000, SESSIONS_MS = 5_000;

const state = {
  namespace: new URLSearchParams(location.search).get("namespace") || "default",
  namespaces: new Set(["default"]),
  revision: 0,
  term: 0,
  updatedAt: 0,
  instances: new Map(),
  tail: [],
  paused: false,
};

// ---------------------------------------------------------------- making elements

const $ = (id) => document.getElementById(id);

function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  for (const child of children.flat(3)) {
    if (child !== null && child !== undefined && child !== "" && child !== false) {
      element.append(child);
    }
  }
  return element;
}

const mono = (content) => h("span", { class: "mono" }, String(content));

function table(name, columns, rows) {
  const cell = (value, at) => {
    const [title, kind] = columns[at];
    const blank = value === "" || value === null ? "blank" : "";
    const classes = [kind, blank].filter(Boolean).join(" ");
    return h("td", { role: "cell", "data-label": title, class: classes || null }, value);
  };
  const heads = columns.map(([title, kind]) =>
    h("th", { role: "columnheader", scope: "col", class: kind === "number" && kind }, title));
  return h("table", { role: "table", class: name },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads)),
    h("tbody", { role: "rowgroup" }, rows.map((row) => h("tr", { role: "row" }, row.map(cell)))));
}

function empty(words, command) {
  return h("p", { class: "empty" }, words, command && h("code", {}, command));
}

// A moment of the cluster's clock, as time that has passed; kept up to date by `age`.
function since(milliseconds) {
  if (!milliseconds) return null;
  const moment = new Date(milliseconds);
  const made = h("time", { datetime: moment.toISOString(), title: moment.toLocaleString() });
  made.dataset.since = milliseconds;
  made.textContent = span(Date.now() - milliseconds);
  return made;
}

function age() {
  for (const element of document.querySelectorAll("[data-since]")) {
    const shown = span(Date.now() - Number(element.dataset.since));
    if (element.textContent !== shown) element.textContent = shown;
  }
  if (!live.hello && state.updatedAt) tellState();
}

function span(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60);
  if (minutes < 60) return `${minutes} min`;
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.floor(hours / 24)} d`;
}

function size(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = count, unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit++; }
  return `${unit && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

const process = (application, host, pid) => `${application || "?"}@${host || "?"}/${pid}`;
const plural = (count, word) => `${count.toLocaleString()} ${word}${count === 1 ? "" : "s"}`;

// Replace the content of a panel if what it shows has changed.
function show(id, facts, count, make) {
  const body = $(id).querySelector(".body");
  const key = JSON.stringify(facts);
  body.removeAttribute("aria-busy");
  if (body.dataset.key === key) return;
  body.dataset.key = key;
  $(id).querySelector(".count").textContent = count;
  const scrolled = body.scrollTop;
  body.replaceChildren(...[make()].flat());
  body.scrollTop = scrolled;
}

function showError(id, error) {
  if (error.code === "closed") return;
  const body = $(id).querySelector(".body");
  body.removeAttribute("aria-busy");
  delete body.dataset.key;
  body.replaceChildren(h("p", { class: "error" }, `${error.message} (${error.code || "error"})`));
}

function capped(items, word, make) {
  const shown = items.slice(0, SHOWN_MAX).map(make);
  const left = items.length - shown.length;
  return left > 0 ? [...shown, h("p", { class: "more" }, `and ${plural(left, word)} more`)] : shown;
}

// ---------------------------------------------------------------- the panels

const panels = {
  async cluster() {
    const [cluster, member, name, version, leader, role, term, index, applied, revision, compacted,
      keys, used, quota, alarms, connections, watches, leases, uptime] =
      await live.call("cluster.status");
    state.updatedAt = Date.now();
    const leads = leader === member;
    const verdict = Number.parseInt(leader, 16)
      ? `Member ${name} ${leads ? "leads the cluster" : `is a ${role}`}`
      : `Member ${name} knows no leader: writes are waiting`;
    const facts = [
      ["Role", [leads ? "◆ " : "○ ", role]],
      ["Term", String(term)],
      ["Revision", h("span", { id: "revision" }, revision.toLocaleString())],
      ["Compacted below", compacted.toLocaleString()],
      ["Applied / index", `${applied} / ${index}`],
      ["Keys", keys.toLocaleString()],
      ["Leases, sessions", leases.toLocaleString()],
      ["Watches", watches.toLocaleString()],
      ["Connections", connections.toLocaleString()],
      ["Space used", [size(used), " ", h("small", {}, `of ${size(quota)}`), meter(used / quota)]],
      ["Up for", span(uptime)],
      ["Alarms", alarms.length ? h("span", { class: "alarm" }, `▲ ${alarms.join(", ")}`) : "none"],
    ];
    $("cluster").replaceChildren(
      h("p", { class: "verdict" }, verdict, " ",
        h("small", {}, `member ${member} · cluster ${cluster} · version ${version}`)),
      h("dl", { class: "facts" },
        facts.map(([title, fact]) => h("div", {}, h("dt", {}, title), h("dd", {}, fact)))));
  },

  services() {
    const all = [...state.instances.values()].sort((a, b) =>
      a[1] === b[1] ? (a[2] < b[2] ? -1 : 1) : a[1] < b[1] ? -1 : 1);
    const byName = Map.groupBy(all, (instance) => instance[1]);
    show("services", all, all.length ? `${byName.size} · ${plural(all.length, "instance")}` : "",
      () => all.length ? capped([...byName], "service", service) : empty(
        "No instance is registered in this namespace.",
        "coordctl service register orders 10.0.0.5:8080"));
  },

  async locks() {
    const [listed] = await live.call("locks.list", state.namespace);
    const locks = await detailed("locks.get", listed, 4);
    show("locks", locks, locks.length ? `${locks.length} held` : "", () =>
      locks.length ? capped(locks, "lock", lock) : empty(
        "No lock is held in this namespace.", "coordctl lock nightly-report -- ./report.sh"));
  },

  async elections() {
    const [listed] = await live.call("elections.list", state.namespace);
    const elections = await detailed("elections.get", listed, 4);
    show("elections", elections, elections.length || "", () =>
      elections.length ? capped(elections, "election", election) : empty(
        "No election has a leader in this namespace.", "coordctl elect scheduler host-1"));
  },

  async topics() {
    const [[topics], [subscriptions]] = await Promise.all([
      live.call("topics.list", state.namespace, ">"),
      live.call("topics.subscribers", state.namespace, ""),
    ]);
    show("topics", [topics, subscriptions], topics.length || "", () =>
      topics.length || subscriptions.length
        ? [topicTable(topics), subscriptionTable(subscriptions)]
        : empty("No topic in this namespace.", "coordctl topic publish orders.created '{\"id\": 1}'"));
  },

  async sessions() {
    const [sessions] = await live.call("sessions.list");
    // The time left changes with every renewal; it is no reason to draw everything anew.
    const facts = sessions.map(([id, , , application, host, pid, , , , holds]) =>
      [id, application, host, pid, holds]);
    show("sessions", facts, sessions.length || "", () =>
      sessions.length ? sessionTable(sessions) : empty("Nobody has a session: no locks, no " +
        "leaderships and no instances hang on anything.", null));
  },

  changes() {
    if (state.paused) return;
    const body = $("changes").querySelector(".body");
    body.removeAttribute("aria-busy");
    $("changes").querySelector(".count").textContent = state.tail.length || "";
    if (!state.tail.length) {
      body.replaceChildren(empty("Nothing has changed since this page was opened.", null));
      return;
    }
    let list = body.querySelector(".tail");
    if (!list) body.replaceChildren(list = h("ol", { class: "tail", reversed: "" }));
    const fresh = state.tail.filter((change) => !change.element).slice(-TAIL_MAX);
    list.prepend(...fresh.map(changeLine).reverse());
    while (list.children.length > TAIL_MAX) list.lastChild.remove();
  },
};

function meter(share) {
  const bar = h("i", {});
  bar.style.width = `${Math.min(100, share * 100).toFixed(1)}%`;
  return h("span", { class: "meter", "aria-hidden": "true" }, bar);
}

// A list tells how many wait; who they are is asked for one by one, as far as it is shown.
async function detailed(operation, listed, waiting) {
  const asked = listed.slice(0, SHOWN_MAX).filter((one) => one[waiting] > 0).slice(0, DETAILS_MAX);
  const found = await Promise.all(asked.map((one) => live.call(operation, one[0], one[1])));
  const byName = new Map(found.map((one) => [one[1], one]));
  return listed.map((one) => byName.get(one[1]) || one).filter((one) => one[2]);
}

const SYMBOLS = { passing: "●", warning: "▲", critical: "✕", draining: "○", maintenance: "◌" };

function service([name, instances]) {
  const counts = Map.groupBy(instances, (instance) => instance[11]);
  const summary = [...counts].map(([status, some]) =>
    h("span", { class: `status ${status in SYMBOLS ? status : ""}` },
      `${SYMBOLS[status] || "?"} ${some.length} ${status} `));
  const rows = instances.slice(0, SHOWN_MAX).map(
    ([, , instance, , address, port, tags, metadata, zone, version, weight, status, reason,
      registered]) => [
      instance,
      port ? `${address.includes(":") ? `[${address}]` : address}:${port}` : address,
      h("span", { class: `status ${status in SYMBOLS ? status : ""}` },
        `${SYMBOLS[status] || "?"} ${status}`, reason && h("span", { class: "dim" }, ` ${reason}`)),
      since(registered) || "",
      [zone, version, weight !== 1 && `weight ${weight}`].filter(Boolean).join(" · "),
      [...tags, ...Object.entries(metadata).map(([key, value]) => `${key}=${value}`)]
        .map((tag) => h("span", { class: "tag" }, tag)),
    ]);
  return h("div", { class: "entry" },
    h("h3", {}, name, h("span", { class: "right" }, summary)),
    table("instances", [["Instance", "mono"], ["Address", "mono"], ["Status"], ["Since"], ["Zone, version"], ["Tags"]],
      rows));
}

function lock([, name, holder, queue, waiting]) {
  const [token, session, owner, , sinceMs, reason, application, host, pid] = holder;
  return h("div", { class: "entry" },
    h("h3", {}, name, h("span", { class: "right" }, "fencing token ", h("b", {}, String(token)))),
    h("p", { class: "held" }, mono(process(application, host, pid)),
      h("span", { class: "dim" }, ` as ${owner}, for `, since(sinceMs))),
    reason && h("p", { class: "small dim" }, `Reason: ${reason}`),
    h("p", { class: "small dim" }, "Session ", mono(session)),
    line(queue.map(([, , waiter, waits, , why, program, machine, number]) =>
      [process(program, machine, number), ` as ${waiter}, for `, waits, why]), waiting, "waiting"));
}

function election([, name, leader, candidates, waiting]) {
  const [token, session, owner, , sinceMs, value, application, host, pid] = leader;
  return h("div", { class: "entry" },
    h("h3", {}, name, h("span", { class: "right" }, "token ", h("b", {}, String(token)))),
    h("p", { class: "leads" }, mono(process(application, host, pid)),
      h("span", { class: "dim" }, ` as ${owner}, for `, since(sinceMs))),
    value && h("p", { class: "small" }, "Proclaims ", mono(text(bytes(value)).slice(0, 400))),
    h("p", { class: "small dim" }, "Session ", mono(session)),
    line(candidates.map(([, , candidate, waits, , program, machine, number]) =>
      [process(program, machine, number), ` as ${candidate}, for `, waits, ""]), waiting, "candidate"));
}

// Who stands in line, in order.
function line(people, waiting, word) {
  if (!people.length) {
    return waiting ? h("p", { class: "more" }, `${waiting} ${word}`) : null;
  }
  const shown = people.slice(0, QUEUE_SHOWN);
  const left = Math.max(waiting, people.length) - shown.length;
  return [
    h("ol", { class: "queue", "aria-label": "Queue" }, shown.map(([who, as, waits, why]) =>
      h("li", {}, mono(who), h("span", { class: "dim" }, as, since(waits), why && `: ${why}`)))),
    left > 0 && h("p", { class: "more" }, `+ ${left.toLocaleString()} more`),
  ].filter(Boolean);
}

function topicTable(topics) {
  if (!topics.length) return empty("No topic in this namespace.", null);
  const rows = topics.slice(0, SHOWN_MAX).map(([, name, retention, first, last, messages, used]) => [
    name,
    messages.toLocaleString(),
    messages ? `${first} – ${last}` : last ? `after ${last}` : "",
    size(used),
    keeps(retention),
  ]);
  const left = topics.length - rows.length;
  return h("div", {},
    table("topics", [["Topic", "mono"], ["Messages", "number"], ["Sequences", "mono"], ["Size", "number"],
      ["Keeps"]], rows),
    left > 0 && h("p", { class: "more" }, `and ${plural(left, "topic")} more`));
}

function keeps([ageMs, messages, space]) {
  return [ageMs && span(ageMs), messages && plural(messages, "message"), space && size(space)]
    .filter(Boolean).join(", ") || "everything";
}

function subscriptionTable(subscriptions) {
  if (!subscriptions.length) return "";
  const rows = subscriptions.slice(0, SHOWN_MAX).map(([, pattern, name, , peer, positions, lag]) => [
    pattern,
    name || peer,
    Object.entries(positions).slice(0, 5).map(([topic, position]) => `${topic}: ${position}`)
      .join(", "),
    lag.toLocaleString(),
  ]);
  return table("subscriptions", [["Subscription", "mono"], ["Who"], ["Position", "mono"], ["Behind", "number"]], rows);
}

function sessionTable(sessions) {
  const rows = sessions.slice(0, SHOWN_MAX).map(
    ([id, ttl, , application, host, pid, actor, opened, , holds]) => [
      id,
      process(application, host, pid) + (actor ? ` (${actor})` : ""),
      `${ttl / 1000} s`,
      since(opened) || "",
      holds.slice(0, 12).map((held) => h("span", { class: "tag" }, held)),
    ]);
  const left = sessions.length - rows.length;
  return h("div", {},
    table("sessions", [["Session", "mono"], ["Process", "mono"], ["TTL", "number"], ["Open for"], ["Holds"]],
      rows),
    left > 0 && h("p", { class: "more" }, `and ${plural(left, "session")} more`));
}

// ---------------------------------------------------------------- the tail of changes

const TELLING = {
  "locks/holder": { put: "was granted", changed: "has a changed holder", gone: "was let go", noun: "Lock" },
  "locks/waiter": { put: "has one more in its queue", noun: "Lock" },
  "elections/holder": { put: "has a new leader", changed: "has a new proclamation", gone: "lost its leader", noun: "Election" },
  "elections/waiter": { put: "has one more candidate", noun: "Election" },
  "services/instance": { put: "came", changed: "changed", gone: "went", noun: "Instance" },
  "topics/topic": { put: "was created", changed: "changed", gone: "was forgotten", noun: "Topic" },
  "topics/message": { put: "was published", noun: "Message" },
  "sessions/session": { put: "was opened", gone: "ended", noun: "Session" },
};

// What one change of a system key means; null for records that only serve others.
function told(parts, type, isNew) {
  const [namespace, domain, kind, ...name] = parts;
  const words = TELLING[`${domain}/${kind}`];
  const verb = words && (type === 1 ? words.gone : isNew ? words.put : words.changed);
  if (!verb) return null;
  const shown = domain === "sessions" ? name[0].toString(16).padStart(16, "0")
    : domain === "services" ? name.join("/")
    : kind === "message" ? `${name[0]} #${name[1]}` : name[0];
  const place = namespace && namespace !== state.namespace ? ` in ${namespace}` : "";
  return { before: `${words.noun} `, name: String(shown), after: ` ${verb}${place}`, type };
}

function changeLine(change) {
  const sentence = change.gap
    ? h("span", { class: "gap" }, change.gap)
    : h("span", {}, change.before, mono(change.name),
      h("span", { class: change.type === 1 && "gone" }, change.after));
  change.element = h("li", { class: "fresh" },
    h("span", {}, change.at), h("span", {}, change.revision ? String(change.revision) : ""), sentence);
  return change.element;
}

function note(change) {
  change.at = new Date().toLocaleTimeString([], { hourCycle: "h23" });
  state.tail.push(change);
  if (state.tail.length > TAIL_MAX) state.tail.splice(0, state.tail.length - TAIL_MAX);
  ask("changes");
}

function onUserEvents(events) {
  for (const [type, [key, , revision, version, , value]] of events) {
    const name = text(bytes(key)).slice(0, 200);
    const length = plural(value.length * 3 / 4 - (value.match(/=+$/)?.[0].length || 0), "byte");
    note({ before: "Key ", name, revision, type,
      after: type === 1 ? " was deleted" : version === 1 ? `: created, ${length}` : `: ${length}` });
  }
  ask("cluster");
}

function onSystemEvents(events) {
  for (const [type, [key, created, revision]] of events) {
    const parts = unpack(bytes(key));
    const [namespace, domain] = parts;
    const change = told(parts, type, created === revision);
    if (change) note({ ...change, revision });
    if (namespace === state.namespace && domain in panels) ask(domain);
    if (namespace && !state.namespaces.has(namespace)) addNamespaces([namespace]);
    ask("sessions");
  }
}

// Follow a whole space; a tail that falls far behind goes on with the present and says so.
function follow(space, take) {
  let at = 0, owed = 0, id = 0, timer = 0;
  const begin = () => {
    id = live.open(
      ["watch.create", EVERYTHING, EVERYTHING, 0, false, false, false, false, EVENTS_AHEAD, space],
      (item) => {
        if (item[0] === "progress") at = item[1];
        if (item[0] !== "events") return;
        at = item[1];
        owed += item[2].length;
        take(item[2]);
        timer ||= setTimeout(pace, 100);
      },
      (error) => {
        if (error.code !== "closed") note({ gap: `The tail was cut off: ${error.message}` });
        if (live.hello) setTimeout(begin, 1_000);
      });
  };
  const pace = () => {
    timer = 0;
    if (state.revision - at > LAG_MAX) {
      live.cancel(id);
      note({ gap: `${plural(state.revision - at, "revision")} not shown: too many to follow` });
      owed = 0;
      for (const name of Object.keys(panels)) ask(name);
      begin();
    } else {
      live.credit(id, owed);
      owed = 0;
    }
  };
  begin();
}

// ---------------------------------------------------------------- asking

const asking = new Map(), busy = new Set(), again = new Set();

// Ask for a panel soon; several reasons within a moment are one. A reason that comes up while
// the answer is on its way makes it ask again: that answer may be older than the reason.
function ask(name) {
  if (busy.has(name)) again.add(name);
  else if (!asking.has(name) && !document.hidden) {
    asking.set(name, setTimeout(() => fill(name), name === "changes" ? 30 : ASK_AGAIN_MS));
  }
}

async function fill(name) {
  asking.delete(name);
  busy.add(name);
  try {
    if (live.hello || name === "changes") await panels[name]();
  } catch (error) {
    if (name === "cluster") console.warn(error);
    else showError(name, error);
  } finally {
    busy.delete(name);
    if (again.delete(name)) ask(name);
  }
}

let servicesStream = 0;

function followServices() {
  live.cancel(servicesStream);
  const keyOf = (instance) => JSON.stringify([instance[1], instance[2]]);
  const stream = live.open(["services.watch", state.namespace, ""], (item) => {
    if (stream !== servicesStream) return;
    if (item[0] === "snapshot") state.instances.clear();
    for (const instance of item[2]) state.instances.set(keyOf(instance), instance);
    for (const instance of item[3] || []) state.instances.delete(keyOf(instance));
    ask("services");
  }, (error) => {
    if (error.code !== "closed") showError("services", error);
    setTimeout(() => live.hello && stream === servicesStream && followServices(), 1_000);
  });
  servicesStream = stream;
}

// Find the namespaces by leaping over the keys of each.
async function findNamespaces() {
  const found = [];
  let start = [0];
  for (let leaps = 0; leaps < 50; leaps++) {
    const [, , kvs] = await live.call("kv.range", base64(start), EVERYTHING, 1, 0, 0, 0, true,
      false, 0, 0, 0, 0, true, 0, 0, SYSTEM);
    if (!kvs.length) break;
    const key = bytes(kvs[0][0]);
    const [namespace] = unpack(key);
    if (namespace) found.push(namespace);
    let end = 1; // behind the text of the namespace
    while (end < key.length && (key[end] !== 0 || key[end + 1] === 0xff)) end += key[end] ? 1 : 2;
    start = [...key.subarray(0, end + 1), 0xff];
  }
  addNamespaces(found);
}

function addNamespaces(names) {
  for (const name of names) state.namespaces.add(name);
  const chosen = $("namespace");
  chosen.replaceChildren(...[...state.namespaces].sort().map((name) => {
    const option = h("option", { value: name }, name);
    option.selected = name === state.namespace;
    return option;
  }));
}

// ---------------------------------------------------------------- beginning

// The words of the state are announced, so they change only when the state does; how long ago
// the last update was stands beside them.
function tellState() {
  const element = $("state");
  const why = state.reason ? ` (${state.reason})` : "";
  const words = live.hello ? `Connected to ${live.hello.name}, live`
    : `${state.updatedAt ? "Disconnected" : "No connection yet"}${why}, trying again`;
  element.dataset.state = live.hello ? "connected" : "disconnected";
  if (element.textContent !== words) element.textContent = words;
  const stale = !live.hello && Boolean(state.updatedAt);
  $("ago").textContent = stale ? `last update ${span(Date.now() - state.updatedAt)} ago` : "";
  document.body.classList.toggle("stale", stale);
}

const live = new Live((what, reason) => {
  state.reason = reason;
  tellState();
  if (what !== "connected") return;
  followServices();
  follow(0, onUserEvents);
  follow(SYSTEM, onSystemEvents);
  findNamespaces().catch(console.warn);
  for (const name of Object.keys(panels)) if (name !== "services") ask(name);
}, (header) => {
  state.term = header.term;
  state.updatedAt = Date.now();
  if (header.revision > state.revision) {
    state.revision = header.revision;
    const shown = $("revision");
    if (shown) shown.textContent = header.revision.toLocaleString();
  }
});

const THEMES = ["system", "light", "dark"];

function setTheme(name) {
  localStorage.setItem("theme", name);
  $("theme").textContent = `Theme: ${name}`;
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
}

for (const body of document.querySelectorAll(".body")) {
  body.setAttribute("aria-busy", "true");
  body.tabIndex = 0; // what scrolls can be reached with the keyboard
  body.setAttribute("role", "group");
  body.setAttribute("aria-labelledby", `${body.parentElement.id}-title`);
}
setTheme(THEMES.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "system");
addNamespaces([state.namespace]);
$("theme").addEventListener("click", () => {
  const now = localStorage.getItem("theme");
  setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
});
$("namespace").addEventListener("change", (event) => {
  state.namespace = event.target.value;
  const url = new URL(location.href);
  url.searchParams.set("namespace", state.namespace);
  history.replaceState(null, "", url);
  state.instances.clear();
  if (live.hello) {
    followServices();
    for (const name of Object.keys(panels)) ask(name);
  }
});
$("pause").addEventListener("click", (event) => {
  state.paused = !state.paused;
  event.target.setAttribute("aria-pressed", String(state.paused));
  event.target.textContent = state.paused ? "Go on" : "Pause";
  ask("changes");
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  live.hurry();
  if (live.hello) for (const name of Object.keys(panels)) ask(name);
});
addEventListener("online", () => live.hurry());
setInterval(age, 1_000);
setInterval(() => live.hello && ask("cluster"), STATUS_MS);
setInterval(() => live.hello && ask("sessions"), SESSIONS_MS);
live.connect();
