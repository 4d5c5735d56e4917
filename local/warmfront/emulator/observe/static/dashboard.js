// The dashboard: draws what /_warmfront/events sends, and sends what its buttons say. No library, no build step.

const TOKEN_KEY = "warmfront-token";
const KEPT = { failed: 30, cold: 10, warm: 30 }; // invocations in the list; one that is open stays whatever comes
const TILES = 160; // environments drawn one by one; the rest is a number
const PHASES = ["init", "frozen", "invoke", "returning", "shutdown"];
const $ = (id) => document.getElementById(id);

let about = { functions: {}, faults: [] };
let latest = null; // the newest message, drawn or not
let paused = false;
let token = "";

// -- small tools ------------------------------------------------------------------------------------------------------

function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function svg(tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

const put = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};
const show = (node, visible) => {
  if (node.hidden === visible) node.hidden = !visible;
};
const whole = (number) => Math.round(number).toLocaleString("en-US");
const figure = (number) => {
  if (number === null || number === undefined) return "–";
  if (number === 0) return "0";
  return number >= 100 ? whole(number) : number.toPrecision(number >= 10 ? 3 : 2);
};
const ms = (number) => (number === null || number === undefined ? "" : `${figure(number)} ms`);
const plural = (count, noun) => `${whole(count)} ${noun}${count === 1 ? "" : "s"}`;
const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");
const sum = (numbers) => numbers.reduce((total, each) => total + (each ?? 0), 0);

function say(text) {
  put($("status"), "");
  requestAnimationFrame(() => put($("status"), text));
}

// -- what the server answers ------------------------------------------------------------------------------------------

async function ask(path, options = {}) {
  const response = await fetch(path, { cache: "no-store", ...options });
  const text = await response.text();
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    body = { message: text };
  }
  if (!response.ok) throw new Error(body.message ?? body.detail ?? `the emulator answered ${response.status}`);
  return body;
}

const write = (path, method, body) =>
  ask(path, {
    method,
    headers: { "x-warmfront-token": token, "content-type": "application/json" },
    body: body === undefined ? undefined : body,
  });

const of = (name) => `functions/${encodeURIComponent(name)}`;

function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(TOKEN_KEY, given);
    history.replaceState(null, "", location.pathname);
  }
  token = sessionStorage.getItem(TOKEN_KEY) ?? "";
}

function showAccess() {
  document.body.dataset.access = token ? "write" : "read";
  show($("access"), !token);
  put($("access"), "Read-only");
  $("access").title = "Open the link that `warmfront serve` prints (with #token=) to use the buttons";
  show($("banner"), !token);
  put($("banner"), "Read-only: open the link that `warmfront serve` prints, the one with #token=, to use the buttons.");
}

function refused(error) {
  if (!/x-warmfront-token/.test(error.message)) return error.message;
  sessionStorage.removeItem(TOKEN_KEY);
  token = "";
  showAccess();
  latest && draw();
  return "The token is not this emulator's: open the link that `warmfront serve` prints.";
}

// -- charts -----------------------------------------------------------------------------------------------------------

function ceiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 6, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

/** A minute of whole seconds: lines (with gaps where there was nothing) or bars. */
class Chart {
  constructor(id, kind, names, unit) {
    this.card = $(id);
    this.picture = this.card.querySelector("svg");
    this.readout = this.card.querySelector("[data-readout]");
    Object.assign(this, { kind, names, unit, series: {}, label: this.picture.getAttribute("aria-label") });
    this.picture.addEventListener("pointermove", (event) => this.point(event));
    this.picture.addEventListener("pointerleave", () => this.point(null));
    new ResizeObserver(() => this.draw()).observe(this.picture);
  }

  set(series) {
    this.series = series;
    this.draw();
  }

  draw() {
    const lists = this.names.map((name) => this.series[name] ?? []);
    const seconds = Math.max(...lists.map((list) => list.length));
    if (!seconds) return;
    const width = this.picture.clientWidth;
    const height = this.picture.clientHeight;
    const box = { left: 40, right: width - 14, top: 8, bottom: height - 18 };
    const tops = lists[0].map((_, at) => (this.kind === "bars" ? sum(lists.map((list) => list[at])) : Math.max(...lists.map((list) => list[at] ?? 0))));
    const top = ceiling(Math.max(this.kind === "bars" ? 4 : 0, ...tops));
    const x = (at) => box.left + ((box.right - box.left) * at) / (seconds - 1);
    const y = (value) => box.bottom - ((box.bottom - box.top) * value) / top;
    Object.assign(this, { x, box, seconds });
    const parts = [0, 0.5, 1].flatMap((share) => [
      svg("line", { class: "rule", x1: box.left, x2: box.right, y1: y(top * share), y2: y(top * share) }),
      svg("text", { x: box.left - 6, y: y(top * share) + 3.5, "text-anchor": "end" }, (top * share).toLocaleString("en-US", { maximumSignificantDigits: 3 })),
    ]);
    parts.push(svg("text", { x: box.left, y: height - 3 }, `${seconds} s ago`), svg("text", { x: box.right, y: height - 3, "text-anchor": "end" }, "now"));
    parts.push(...(this.kind === "bars" ? this.bars(lists, x, y, box) : this.lines(lists, x, y, box)));
    if (this.at !== undefined) parts.push(svg("line", { class: "cursor", x1: x(this.at), x2: x(this.at), y1: box.top, y2: box.bottom }));
    this.picture.replaceChildren(...parts);
    this.picture.setAttribute("aria-label", `${this.label}: at most ${figure(Math.max(...tops))} ${this.unit}`);
    this.read();
  }

  lines(lists, x, y, box) {
    const made = [];
    lists.forEach((list, index) => {
      let path = "";
      let began = null;
      let area = "";
      list.forEach((value, at) => {
        const next = list[at + 1] ?? null;
        if (value === null) return;
        if (began === null) began = at;
        path += `${began === at ? "M" : "L"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
        if (began === at && next === null) path += "h.1"; // a second alone is a dot
        if (next === null) {
          area = `${path}V${box.bottom}H${x(0)}Z`;
          began = null;
        }
      });
      if (this.kind === "area" && area) made.push(svg("path", { class: "area", d: area }));
      made.push(svg("path", { class: `line s-${this.names[index].replace("_ms", "")}`, d: path || "M0 0" }));
    });
    return made;
  }

  bars(lists, x, y, box) {
    const made = [];
    const wide = Math.max(2, ((box.right - box.left) / this.seconds) * 0.7);
    for (let at = 0; at < this.seconds; at += 1) {
      let under = 0;
      lists.forEach((list, index) => {
        const value = list[at] ?? 0;
        if (value) made.push(svg("rect", { class: `s-${this.names[index]}`, x: x(at) - wide / 2, width: wide, y: y(under + value), height: Math.max(1, y(under) - y(under + value)) }));
        under += value;
      });
    }
    return made;
  }

  point(event) {
    if (event && this.x) {
      const share = (event.offsetX - this.box.left) / (this.box.right - this.box.left);
      this.at = Math.max(0, Math.min(this.seconds - 1, Math.round(share * (this.seconds - 1))));
    } else this.at = undefined;
    this.draw();
  }

  read() {
    if (this.at === undefined) return put(this.readout, "");
    const values = this.names.map((name) => `${this.names.length > 1 ? `${name.replace("_ms", "")} ` : ""}${figure(this.series[name]?.[this.at])}`);
    return put(this.readout, `${this.seconds - this.at} s ago: ${values.join(" · ")}`);
  }
}

const charts = {
  rate: new Chart("chart-rate", "area", ["rate"], "requests per second"),
  latency: new Chart("chart-latency", "lines", ["p50_ms", "p95_ms", "p99_ms"], "ms"),
  failures: new Chart("chart-failures", "bars", ["errors", "throttles"], "in a second"),
  cold: new Chart("chart-cold", "bars", ["cold_starts"], "in a second"),
};
charts.cold.names = ["cold"];

function drawCharts({ totals, rates, series = {} }) {
  const card = (chart, text, unit) => {
    put(chart.card.querySelector("[data-value]"), text);
    if (unit) put(chart.card.querySelector("[data-unit]"), unit);
  };
  charts.rate.set({ rate: rates });
  card(charts.rate, figure(totals.rate_per_s));
  charts.latency.set(series);
  for (const name of ["p50", "p95", "p99"]) put(charts.latency.card.querySelector(`[data-${name}]`), figure(totals[`${name}_ms`]));
  charts.failures.set(series);
  const failed = sum(series.errors ?? []);
  const throttled = sum(series.throttles ?? []);
  card(charts.failures, whole(failed), `${failed === 1 ? "error" : "errors"}, ${whole(throttled)} throttled`);
  charts.cold.set({ cold: series.cold_starts ?? [] });
  card(charts.cold, whole(sum(series.cold_starts ?? [])), `in the last minute, ${whole(totals.cold_starts)} in all`);
}

// -- functions --------------------------------------------------------------------------------------------------------

const rows = new Map();
const used = new Map(); // environment id -> its invocations when last drawn

function functionRow(name) {
  const known = rows.get(name);
  if (known) return known;
  const told = about.functions[name] ?? {};
  const row = {
    tiles: h("div", { class: "tiles", role: "img" }),
    counts: h("dl", { class: "counts" }),
    fault: h("div", { class: "fault", hidden: true }),
    off: h("p", { class: "off", hidden: true }),
    figures: {},
  };
  row.invoke = h("button", { type: "button", "aria-label": `Invoke ${name}`, onclick: () => openInvoke(name) }, "Invoke");
  row.retire = h("button", { type: "button", "aria-label": `Force a cold start of ${name}`, onclick: () => retire(name, row.retire) }, "Cold start");
  row.inject = h("button", { type: "button", "aria-label": `Inject a fault into ${name}`, onclick: () => openFault(name) }, "Fault");
  for (const [key, label] of [["invocations", "invoked"], ["errors", "errors"], ["throttles", "throttled"], ["cold_starts", "cold"], ["p99_ms", "p99 ms"]]) {
    row.figures[key] = h("dd", {}, "–");
    row.counts.append(h("div", {}, h("dt", {}, label), row.figures[key]));
  }
  row.clear = h("button", { type: "button", "aria-label": `Clear the fault of ${name}`, onclick: () => clearFault(name) }, "Clear");
  row.faultText = h("span");
  row.fault.append(row.faultText, row.clear);
  row.meta = h("small");
  row.does = h("div", { class: "does" }, row.invoke, row.retire, row.inject);
  row.node = h("li", { "data-function": name }, h("div", { class: "who" }, h("b", {}, name), row.meta), row.tiles, row.counts, row.does, row.off, row.fault);
  row.runtime = told.runtime;
  rows.set(name, row);
  $("function-rows").append(row.node);
  $("filter").append(h("option", { value: name }, name));
  return row;
}

function drawFunction(it, fault) {
  const row = functionRow(it.name);
  const limit = it.concurrency_max === null ? "" : ` · at most ${it.concurrency_max}`;
  put(row.meta, `${about.functions[it.name]?.runtime ?? ""} · ${it.memory_mb} MB${limit}`.replace(/^ · /, ""));
  const runs = it.not_runnable === null;
  for (const part of [row.tiles, row.counts, row.does]) show(part, runs);
  show(row.off, !runs);
  if (!runs) return put(row.off, `Not runnable here: ${it.not_runnable}`);
  for (const [key, node] of Object.entries(row.figures)) put(node, key === "p99_ms" ? figure(it[key]) : whole(it[key]));
  row.figures.errors.parentNode.className = it.errors ? "some-bad" : "";
  row.figures.throttles.parentNode.className = it.throttles ? "some-doubt" : "";
  for (const button of [row.invoke, row.inject, row.clear]) button.disabled = !token;
  row.retire.disabled = !token || !it.environments.length;
  drawTiles(row.tiles, it.environments);
  drawFault(row, fault);
}

function drawTiles(box, environments) {
  const counts = Object.fromEntries(PHASES.map((phase) => [phase, environments.filter((each) => each.phase === phase).length]));
  const words = PHASES.filter((phase) => counts[phase]).map((phase) => `${counts[phase]} ${phase}`);
  box.setAttribute("aria-label", environments.length ? `${plural(environments.length, "environment")}: ${words.join(", ")}` : "no environment");
  const shown = environments.slice(0, TILES);
  while (box.children.length > shown.length + 1) box.firstChild.remove();
  while (box.children.length < shown.length + 1) box.prepend(h(box.children.length ? "i" : "small"));
  shown.forEach((each, index) => {
    const tile = box.children[index];
    const worked = used.has(each.id) && used.get(each.id) !== each.invocations;
    const style = `tile ${each.phase}${worked ? " used" : ""}`;
    if (tile.className !== style) tile.className = style;
    used.set(each.id, each.invocations);
    const init = each.init_duration_ms === null ? "" : `, init ${ms(each.init_duration_ms)}`;
    tile.title = `${each.phase}: pid ${each.pid ?? "–"}, ${plural(each.invocations, "invocation")}${init}\n${each.id}`;
  });
  const more = environments.length - shown.length;
  put(box.lastChild, environments.length ? (more ? `+${more}` : "") : "no environment");
}

function drawFault(row, fault) {
  show(row.fault, Boolean(fault));
  if (!fault) return;
  put(row.faultText, `${fault.title}${fault.detail ? `: ${fault.detail}` : ""} · cleared in ${Math.ceil(fault.left_s)} s`);
}

function drawPools(functions) {
  const box = $("pools");
  const told = functions.filter((each) => each.pool || each.circuits.length);
  if (!told.length) {
    if (!box.querySelector(".empty") || box.children.length > 1) {
      box.replaceChildren(h("p", { class: "empty" }, "No function has reported a pool or a breaker yet. Those that emit ConnectionsOpen and ConnectionBudget in EMF appear here."));
    }
    return;
  }
  const key = JSON.stringify(told.map((each) => [each.name, each.pool, each.circuits]));
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  box.replaceChildren(...told.map(poolOf));
}

function poolOf({ name, pool, circuits }) {
  const node = h("section", { class: "pool", "aria-label": name });
  const percent = pool ? pool.utilisation * 100 : 0;
  node.append(h("header", {}, h("b", {}, name), h("span", { class: "mono" }, pool ? `${whole(pool.open)} of ${whole(pool.budget)} open` : "")));
  if (pool) {
    const bar = h("i");
    bar.style.width = `${Math.min(100, percent)}%`;
    node.append(
      h("div", { class: percent > 90 ? "meter high" : "meter", role: "meter", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(percent), "aria-label": `connections of ${name} in per cent of the budget` }, bar),
      h("p", {}, `${figure(percent)} % of the budget; ${pool.acquire_wait_p99_ms === null ? "nobody waited" : `p99 of waits ${ms(pool.acquire_wait_p99_ms)}`}`),
    );
  }
  const pills = circuits.map((circuit) => {
    const state = circuit.open ? "open" : circuit.half_open ? "half_open" : "closed";
    const many = circuit.open + circuit.half_open;
    const where = many ? ` in ${many} of ${plural(Math.max(circuit.environments, many), "environment")}` : "";
    const told = circuit.rejected ? `, ${whole(circuit.rejected)} rejected` : "";
    return h("span", { class: `circuit ${state}` }, `${circuit.name} ${state.replace("_", "-")}${where}${told}`);
  });
  node.append(h("p", {}, ...(pills.length ? pills : [h("span", { class: "circuit closed" }, "no breaker has moved")])));
  return node;
}

// -- invocations ------------------------------------------------------------------------------------------------------

const calls = new Map(); // request id -> {it, node, ...}

function outcome(it) {
  if (it.failed) return [it.error_type ?? it.status, "mark-bad"];
  if (it.http_status !== null && it.http_status >= 500) return [`HTTP ${it.http_status}`, "mark-bad"];
  return [it.http_status === null ? it.status : String(it.http_status), it.http_status >= 400 ? "mark-doubt" : "mark-ok"];
}

const groupOf = (it) => (it.failed || it.http_status >= 500 ? "failed" : it.cold ? "cold" : "warm");

/** The calls of each group, newest first. */
function grouped(wanted) {
  const groups = { failed: [], cold: [], warm: [] };
  const order = [...calls.values()].sort((a, b) => b.it.ended_s - a.it.ended_s);
  for (const call of order) if (!wanted || call.it.function === wanted) groups[groupOf(call.it)].push(call);
  return groups;
}

function takeInvocations(list) {
  for (const it of list) {
    const known = calls.get(it.request_id);
    if (known) known.it = it;
    else calls.set(it.request_id, { it, node: null, open: false });
  }
  for (const [name, group] of Object.entries(grouped(""))) {
    for (const call of group.slice(KEPT[name])) {
      if (call.open) continue;
      call.node?.remove();
      calls.delete(call.it.request_id);
    }
  }
}

/** Whoever points at the list, or has the focus in it, is not to have it move away. */
const isHeld = () => [...document.querySelectorAll(".calls")].some((list) => list.matches(":hover") || list.contains(document.activeElement));

function drawInvocations() {
  const groups = grouped($("filter").value);
  const held = isHeld();
  const unseen = Object.values(groups).flat().filter((call) => !call.node?.isConnected).length;
  for (const [name, group] of Object.entries(groups)) {
    if (!held) place($(name), group);
    show($(`${name}-title`), $(name).children.length > 0);
  }
  show($("nothing"), !calls.size);
  const counts = `${groups.failed.length} failed, ${groups.cold.length} cold, ${groups.warm.length} warm of the latest`;
  put($("recent-count"), held && unseen ? `${unseen} more when you leave the list` : calls.size ? counts : "");
}

/** Nodes in order, moving none that is in its place already, so that focus stays where it is. */
function place(list, wanted) {
  const keep = new Set(wanted.map((call) => drawCall(call)));
  for (const node of [...list.children]) if (!keep.has(node)) node.remove();
  wanted.forEach((call, index) => {
    if (list.children[index] !== call.node) list.insertBefore(call.node, list.children[index] ?? null);
  });
}

function drawCall(call) {
  const { it } = call;
  const [text, mark] = outcome(it);
  const key = `${text} ${it.route} ${it.http_status}`;
  if (call.node && call.key === key) return call.node;
  call.key = key;
  const cells = [
    h("i", { class: "turn", "aria-hidden": "true" }),
    h("span", { class: "c-time" }, h("time", {}, clock(it.ended_s))),
    h("span", { class: `c-outcome ${mark}` }, text),
    h("span", { class: "c-function" }, it.function),
    h("span", { class: "c-request" }, it.route ?? "not through an API"),
    h("span", { class: "c-init num cold" }, it.cold ? (it.init_ms === null ? "cold" : `+${ms(it.init_ms)}`) : h("span", { class: "unseen" }, "warm")),
    h("span", { class: "c-duration num" }, ms(it.duration_ms)),
  ];
  if (!call.node) {
    call.button = h("button", { type: "button", "aria-expanded": "false", onclick: () => toggle(call) });
    call.node = h("li", { class: "call", "data-request": it.request_id, "data-cold": String(it.cold) }, call.button);
  }
  call.button.replaceChildren(...cells);
  return call.node;
}

async function toggle(call) {
  call.open = !call.open;
  call.button.setAttribute("aria-expanded", String(call.open));
  call.detail?.remove();
  if (!call.open) return;
  call.detail = h("div", { class: "detail" }, h("p", { class: "hint" }, "Loading"));
  call.node.append(call.detail);
  try {
    const told = await ask(`invocations/${encodeURIComponent(call.it.request_id)}`);
    call.it = { ...call.it, http_status: told.http_status, route: told.route }; // its answer was not out yet, perhaps
    call.detail.replaceChildren(...detailOf(told));
    drawCall(call);
  } catch (error) {
    call.detail.replaceChildren(h("p", { class: "error" }, error.message));
  }
}

function detailOf(it) {
  const facts = h("dl", { class: "facts" });
  const tell = (name, value, style = "") => value && facts.append(h("div", {}, h("dt", {}, name), h("dd", { class: style }, value)));
  tell("Request", it.request_id, "mono");
  tell("Trace", it.trace_id, "mono");
  tell("Environment", it.environment?.slice(0, 12), "mono");
  tell("Waited", ms(it.queued_ms));
  tell("Init", ms(it.init_ms));
  tell("Memory", `${it.memory_used_mb} of ${it.memory_mb} MB`);
  const log = h("div", {}, h("h4", {}, "Log"), h("pre", { tabindex: 0, "aria-label": "Log" }, ...logLines(it.log ?? "")));
  const trace = h("div", {}, h("h4", {}, it.trace ? `Trace, ${ms(it.trace.duration_ms)}` : "Trace"), it.trace ? waterfall(it.trace) : h("p", { class: "hint" }, "No trace is kept of it."));
  if (it.trace && !it.sampled) trace.append(h("p", { class: "hint" }, "Not sampled: the handler's own spans are not in it."));
  if (it.report) trace.append(h("h4", { class: "next" }, "Report"), h("pre", { tabindex: 0, "aria-label": "Report" }, reportOf(it.report)));
  return [facts, trace, log];
}

/** A REPORT line as it is; a JSON one (LogFormat JSON) as the same line. */
function reportOf(line) {
  if (!line.startsWith("{")) return line.replace(/\t/g, "  ").trim();
  const { requestId, metrics, status } = JSON.parse(line).record;
  const parts = [`REPORT RequestId: ${requestId}`, `Duration: ${metrics.durationMs} ms`, `Billed Duration: ${metrics.billedDurationMs} ms`];
  parts.push(`Memory Size: ${metrics.memorySizeMB} MB`, `Max Memory Used: ${metrics.maxMemoryUsedMB} MB`);
  if (metrics.initDurationMs !== undefined) parts.push(`Init Duration: ${metrics.initDurationMs} ms`);
  if (status && status !== "success") parts.push(`Status: ${status}`);
  return parts.join("  ");
}

function logLines(text) {
  const lines = text.replace(/\r/g, "\n").replace(/\n+$/, "").split("\n");
  return lines.map((line) => {
    const style = /^REPORT |"type":"platform.report"/.test(line)
      ? "report"
      : /^(START|END|INIT_START|XRAY)\b|"type":"platform\.|^\{"_aws":/.test(line)
        ? "platform"
        : /^\[ERROR\]|"level": ?"(ERROR|CRITICAL)"|Task timed out|INIT_REPORT|Traceback/.test(line)
          ? "wrong"
          : "";
    return h("span", { class: style }, `${line.replace(/\t/g, "  ")}\n`);
  });
}

function waterfall(trace) {
  const depths = new Map();
  const list = h("ol", { class: "fall" });
  const total = Math.max(trace.duration_ms, ...trace.spans.map((span) => span.start_ms + span.duration_ms), 0.001);
  for (const span of trace.spans) {
    const depth = span.parent === null ? 0 : (depths.get(span.parent) ?? -1) + 1;
    depths.set(span.id, depth);
    const bar = h("i");
    bar.style.left = `${Math.min(99.5, (span.start_ms / total) * 100)}%`;
    bar.style.width = `${Math.max(0.4, Math.min(100, (span.duration_ms / total) * 100))}%`;
    const name = h("span", { class: "name", title: span.error ?? span.name }, span.name);
    name.style.paddingLeft = `${Math.min(depth, 5) * 10}px`;
    const kind = span.kind === "segment" ? "inner" : span.kind;
    list.append(
      h("li", { class: `${kind}${span.status === "ok" ? "" : " wrong"}`, title: `${span.kind}: begins at ${figure(span.start_ms)} ms${span.error ? `; ${span.error}` : ""}` },
        name, h("span", { class: "track", "aria-hidden": "true" }, bar), h("span", { class: "num" }, ms(span.duration_ms))),
    );
  }
  return list;
}

// -- buttons ----------------------------------------------------------------------------------------------------------

async function retire(name, button) {
  button.disabled = true;
  try {
    const { retired } = await write(`${of(name)}/retire`, "POST");
    say(`${plural(retired, "environment")} of ${name} shut down; its next invocation is a cold start.`);
  } catch (error) {
    notice(refused(error));
  }
}

function notice(text) {
  show($("banner"), true);
  put($("banner"), text);
  say(text);
}

let invoked = "";

function openInvoke(name) {
  if (invoked !== name) show($("answer"), false);
  invoked = name;
  put($("invoke-title"), `Invoke ${name}`);
  const samples = about.functions[name]?.samples ?? [];
  $("sample").replaceChildren(...samples.map((sample, index) => h("option", { value: index }, sample.name)));
  takeSample();
  $("invoke").showModal();
}

function takeSample() {
  const sample = about.functions[invoked]?.samples?.[$("sample").value || 0];
  $("event").value = JSON.stringify(sample?.event ?? {}, null, 2);
  checkEvent();
}

function checkEvent() {
  let text = "";
  try {
    JSON.parse($("event").value);
  } catch (error) {
    text = error.message;
  }
  put($("event-error"), text);
  $("event").setAttribute("aria-invalid", String(Boolean(text)));
  $("send").disabled = Boolean(text) || !token;
  return !text;
}

async function send() {
  if (!checkEvent() || !token) return;
  $("send").disabled = true;
  put($("send"), "Running");
  try {
    const told = await write(`${of(invoked)}/invoke`, "POST", $("event").value);
    const failed = told.status !== "ok";
    put($("answer-line"), `${failed ? `Failed: ${told.error_type ?? told.status}` : "Succeeded"}${told.request_id ? `, request ${told.request_id}` : ""}`);
    $("answer-line").className = failed ? "mark-bad" : "mark-ok";
    put($("answer-body"), typeof told.payload === "string" ? told.payload : JSON.stringify(told.payload, null, 2));
    show($("answer"), true);
  } catch (error) {
    put($("event-error"), refused(error));
  }
  put($("send"), "Invoke");
  $("send").disabled = !token;
}

let faulted = "";

function openFault(name) {
  faulted = name;
  put($("fault-title"), `Inject a fault into ${name}`);
  put($("fault-error"), "");
  $("kinds").replaceChildren(
    $("kinds").querySelector("legend"),
    ...about.faults.map((kind, index) =>
      h("label", {}, h("input", { type: "radio", name: "kind", value: kind.kind, checked: index === 0, onchange: takeKind }), h("span", {}, kind.title), h("small", {}, kind.about)),
    ),
  );
  takeKind();
  $("fault").showModal();
}

const chosenKind = () => about.faults.find((kind) => kind.kind === $("kinds").querySelector(":checked")?.value);

function takeKind() {
  const { amount, seconds } = chosenKind();
  show($("amount-label"), amount !== null);
  $("amount").disabled = amount === null;
  if (amount) {
    put($("amount-label").firstChild, `${amount.label} `);
    Object.assign($("amount"), { min: amount.low, max: amount.high, step: "any", value: amount.usual });
  }
  Object.assign($("seconds"), { min: seconds.low, max: seconds.high, step: 1, value: seconds.usual });
}

async function inject() {
  const inputs = [$("amount"), $("seconds")].filter((input) => !input.disabled);
  if (!inputs.every((input) => input.reportValidity())) return;
  const kind = chosenKind();
  const body = { kind: kind.kind, seconds: Number($("seconds").value), amount: kind.amount ? Number($("amount").value) : null };
  try {
    await write(`${of(faulted)}/fault`, "PUT", JSON.stringify(body));
    $("fault").close();
    say(`${kind.title} injected into ${faulted}.`);
  } catch (error) {
    put($("fault-error"), refused(error));
  }
}

async function clearFault(name) {
  try {
    await write(`${of(name)}/fault`, "DELETE");
    say(`The fault of ${name} is cleared.`);
    rows.get(name)?.inject.focus();
  } catch (error) {
    notice(refused(error));
  }
}

// -- the stream -------------------------------------------------------------------------------------------------------

function draw() {
  const { snapshot, faults } = latest;
  drawCharts(snapshot);
  const byName = Object.fromEntries(faults.map((fault) => [fault.function, fault]));
  for (const it of snapshot.functions) drawFunction(it, byName[it.name]);
  show($("faulty"), faults.length > 0);
  put($("faulty"), faults.length === 1 ? `Fault in ${faults[0].function}` : `${faults.length} faults`);
  drawPools(snapshot.functions);
  drawInvocations();
  if (used.size > 20000) used.clear();
}

let saidAt = 0;

/** Cold starts, no oftener than somebody can listen to. */
function announce(before, after) {
  const cold = before ? after.totals.cold_starts - before.totals.cold_starts : 0;
  if (cold <= 0 || Date.now() - saidAt < 5000) return;
  saidAt = Date.now();
  say(`${plural(cold, "cold start")}.`);
}

function linkState(state, text) {
  $("link").dataset.state = state;
  put($("link-text"), text);
}

function take(message) {
  const before = latest?.snapshot;
  latest = message;
  takeInvocations(message.invocations);
  if (paused) return;
  announce(before, message.snapshot);
  draw();
}

function listen() {
  const stream = new EventSource("events");
  stream.onopen = () => linkState(paused ? "paused" : "live", paused ? "Paused" : "Live");
  stream.onmessage = (event) => take(JSON.parse(event.data));
  stream.onerror = () => linkState("lost", "Emulator gone, trying again");
}

function pause() {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  put($("pause"), paused ? "Resume" : "Pause");
  if ($("link").dataset.state !== "lost") linkState(paused ? "paused" : "live", paused ? "Paused" : "Live");
  if (!paused && latest) draw();
}

async function start() {
  takeToken();
  showAccess();
  about = await ask("about");
  const servers = Object.entries(about.backing).map(([name, it]) => `${name} ${it.version}`);
  put($("about"), [about.template, ...servers].join(" · "));
  document.title = `${about.template} · Warmfront`;
  $("pause").addEventListener("click", pause);
  $("sample").addEventListener("change", takeSample);
  $("event").addEventListener("input", checkEvent);
  $("event").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send();
  });
  $("send").addEventListener("click", send);
  $("inject").addEventListener("click", inject);
  $("filter").addEventListener("change", drawInvocations);
  window.addEventListener("hashchange", () => {
    takeToken();
    showAccess();
    latest && draw();
  });
  listen();
}

start().catch((error) => {
  linkState("lost", "Emulator gone");
  notice(error.message);
});
