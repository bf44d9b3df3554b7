"use strict";
// The data comes from files that anyone can write: it is set as text, and escaped where Plotly reads markup.
// Plotly does not wrap lines, so long text in a chart loses its middle.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56a0d3", "#8a5fbf", "#c0392b", "#3b8a8a", "#7a7a7a", "#6b8e23", "#a0522d"];
// Plotly's symbols, each with the same shape as an SVG path around the middle of a swatch.
const SYMBOLS = Object.entries({
  circle: "M-6 0a6 6 0 0 0 12 0a6 6 0 0 0-12 0", square: "M-5-5H5V5H-5", diamond: "M0-7L7 0L0 7L-7 0",
  "triangle-up": "M0-6L7 6H-7", "triangle-down": "M0 6L7-6H-7", cross: "M-2-7H2V-2H7V2H2V7H-2V2H-7V-2H-2",
  x: "M0-3L4-7L7-4L3 0L7 4L4 7L0 3L-4 7L-7 4L-3 0L-7-4L-4-7", star: "M0-7L2-2H7L3 1L4 6L0 3L-4 6L-3 1L-7-2H-2",
  pentagon: "M0-7L7-2L4 6H-4L-7-2", hexagram: "M0-7L2-4H6L4 0L6 4H2L0 7L-2 4H-6L-4 0L-6-4H-2",
  hourglass: "M-6-6H6L-6 6H6", bowtie: "M-6-6V6L6-6V6",
});
const DASHES = { none: "solid", adaptive: "dash", window: "dot" };
const PERCENTILES = [["p50", "circle"], ["p95", "diamond"], ["p99", "triangle-up"]];
// Most backends whose bands can be distinguished in one chart.
const FEW = 4;
// Ticks of a logarithmic axis; Plotly's own would be labelled 2 where they mean 20.
const ROUND = [-1, 0, 1, 2, 3, 4].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));
const state = { kind: 0, batch: "", metric: data.default_metric, hidden: new Set(), run: 0 };

const kind = () => data.kinds[state.kind];
const clipped = (text, longest) => text.length <= longest ? text : `${text.slice(0, longest - 9)}…${text.slice(-8)}`;
const escaped = (text, longest = 44) => clipped(text, longest).replace(/&/g, "&amp;").replace(/</g, "&lt;");
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const figure = (value, digits = 4) => value == null ? "not measured" : Number(value.toPrecision(digits)).toLocaleString("en");
const percent = (share) => `${share < 0 ? "" : "+"}${(100 * share).toFixed(1)} %`;
const sorted = (sizes) => [...new Set(sizes)].sort((a, b) => a - b);
const shown = (rows) => rows.filter((row) => !state.hidden.has(row.backend));
const placeOf = (backend) => Math.max(0, kind().backends.indexOf(backend));
const color = (backend) => COLORS[placeOf(backend) % COLORS.length];
const mark = (backend) => SYMBOLS[placeOf(backend) % SYMBOLS.length];
const symbol = (backend) => mark(backend)[0];

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function layout(x, y, more = {}) {
  const axis = { gridcolor: style("--line"), zerolinecolor: style("--line"), linecolor: style("--line"), automargin: true, fixedrange: innerWidth < 600 };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: style("--ink"), size: 12, family: "system-ui, sans-serif" },
    margin: { l: 8, r: 12, t: 8, b: 8 }, showlegend: false, hovermode: "closest",
    hoverlabel: { bgcolor: style("--panel"), bordercolor: style("--line"), font: { color: style("--ink") }, align: "left" },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    ...more, xaxis: { ...axis, ...x }, yaxis: { ...axis, ...y },
  };
}

// Says why nothing is drawn although something may have been measured.
function absence(measured) {
  if (!measured.length) return "No saved run of this kind has it.";
  const sizes = sorted(shown(measured).map((row) => row.batch));
  return sizes.length ? `Not measured at batch size ${state.batch}: choose ${sizes.join(" or ")}.` : "The backends that have it are switched off.";
}

// Draws a chart, or writes in its place why there is nothing to draw.
function draw(id, measured, note, source, traces, figureLayout) {
  const place = $(id);
  $(`n-${id}`).replaceChildren(note, element("span", source));
  if (!traces.length) {
    if (place.data) { Plotly.purge(place); delete place.dataset.clicks; }
    place.classList.add("empty");
    place.textContent = absence(measured);
    return;
  }
  if (place.classList.contains("empty")) { place.classList.remove("empty"); place.textContent = ""; }
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", `${$(`t-${id}`).textContent}: ${note}`);
  Plotly.react(place, traces, figureLayout, { displayModeBar: false, responsive: true, typesetMath: false });
}

function origin(part) {
  const run = kind().runs[part.run];
  return run ? `${clipped(run.name, 44)}, ${run.time.slice(0, 10)}` : "";
}

// The tables that the terminal shows of the newest run.
function drawTables() {
  const latest = kind().latest.tables;
  const line = (tag, cells) => {
    const row = element("tr");
    row.append(...cells.map((cell) => element(tag, cell)));
    return row;
  };
  $("n-tables").textContent = latest.rows.length ? origin(latest) : absence([]);
  $("tables").replaceChildren(...latest.rows.map(({ title, heads, rows }) => {
    const table = element("table");
    table.append(element("caption", title), line("th", heads), ...rows.map((cells) => line("td", cells)));
    return table;
  }));
}

// The filters that explain the colours are far above a chart, and not on paper: each chart repeats them.
function drawKey(id, rows) {
  $(`k-${id}`).replaceChildren(...[...new Set(rows.map((row) => row.backend))].map((backend) => {
    const item = element("li");
    item.append(swatch(backend), element("span", clipped(backend, 44)));
    return item;
  }));
}

function swatch(backend) {
  const [made, path] = ["svg", "path"].map((name) => document.createElementNS("http://www.w3.org/2000/svg", name));
  for (const [name, value] of Object.entries({ class: "swatch", viewBox: "-8 -8 16 16", "aria-hidden": "true" })) made.setAttribute(name, value);
  path.setAttribute("d", `${mark(backend)[1]}Z`);
  path.setAttribute("fill", color(backend));
  made.append(path);
  return made;
}

// The axis of names: the first row is at the top.
const names = (rows) => ({ type: "category", autorange: "reversed", ticks: "", tickvals: rows.map((row) => row.backend), ticktext: rows.map((row) => escaped(row.backend, innerWidth < 600 ? 20 : 32)) });

function drawLatency() {
  const latest = kind().latest.latency, all = latest.rows.filter((row) => PERCENTILES.some(([name]) => row[name] != null));
  const rows = shown(all).filter((row) => String(row.batch) === state.batch);
  const percentiles = PERCENTILES.filter(([name]) => rows.some((row) => row[name] != null));
  const traces = percentiles.map(([name, mark]) => ({
    type: "scatter", mode: "markers", name, y: rows.map((row) => row.backend), x: rows.map((row) => row[name]),
    marker: { symbol: mark, size: 10, color: rows.map((row) => color(row.backend)) },
    error_x: { type: "data", symmetric: false, thickness: 1.5, width: 4, color: style("--quiet"),
      array: rows.map((row) => row[`${name}_ci`] ? row[`${name}_ci`][1] - row[name] : 0),
      arrayminus: rows.map((row) => row[`${name}_ci`] ? row[name] - row[`${name}_ci`][0] : 0) },
    hoverinfo: "text", hovertext: rows.map((row) => `${escaped(row.backend)}<br>${name} ${figure(row[name])} ms`),
  }));
  draw("latency", all, `${percentiles.map(([name]) => name).join(", ") || "Percentiles"} in ms with 95 % intervals${state.batch && `, batch size ${state.batch}`}; lower is better.`, origin(latest),
    traces, layout({ title: { text: "ms, lower is better" }, rangemode: "tozero" },
      { ...names(rows), autorange: false, range: [rows.length - 0.5, -0.5] }, { showlegend: true }));
}

function drawBars(id, note, unit, value) {
  const latest = kind().latest.throughput, all = latest.rows.filter((row) => row[value] != null), rows = shown(all);
  const traces = rows.length ? [{
    type: "bar", orientation: "h", y: rows.map((row) => row.backend), x: rows.map((row) => row[value]),
    marker: { color: rows.map((row) => color(row.backend)) },
    hoverinfo: "text", hovertext: rows.map((row) => `${escaped(row.backend)}<br>${figure(row[value])} ${unit}`), textposition: "none",
  }] : [];
  const title = note.split(":")[0].replace(", ", innerWidth < 600 ? ",<br>" : ", ");
  draw(id, all, note, origin(latest), traces, layout({ title: { text: title }, rangemode: "tozero" }, names(rows)));
}

function drawFidelity() {
  const latest = kind().latest.throughput, all = latest.rows.filter((row) => row.rate != null && row.cosine != null), rows = shown(all);
  const front = rows.filter((row) => row.front).sort((a, b) => a.rate - b.rate);
  const traces = rows.length ? [
    { type: "scatter", mode: "lines", name: "Pareto front", x: front.map((row) => row.rate), y: front.map((row) => row.cosine), line: { dash: "dot", color: style("--quiet") }, hoverinfo: "skip" },
    { type: "scatter", mode: "markers", name: "backends", showlegend: false, x: rows.map((row) => row.rate), y: rows.map((row) => row.cosine),
      marker: { size: 12, color: rows.map((row) => color(row.backend)), symbol: rows.map((row) => symbol(row.backend)) },
      hoverinfo: "text", hovertext: rows.map((row) => `${escaped(row.backend)}${row.front ? ", on the Pareto front" : ""}<br>${figure(row.rate)} texts/s<br>cosine ${figure(row.cosine, 6)}`) },
  ] : [];
  drawKey("fidelity", rows);
  draw("fidelity", all, `Sustained texts/s against mean cosine to the reference; upper right is better.`, origin(latest), traces,
    layout({ title: { text: "texts/s, higher is better" }, rangemode: "tozero" }, { title: { text: "cosine, higher is better" } }, { showlegend: true }));
}

function drawSweep() {
  const latest = kind().latest.latency, all = latest.rows.filter((row) => row.rate != null), rows = shown(all);
  const sizes = sorted(rows.map((row) => row.batch));
  const traces = [...new Set(rows.map((row) => row.backend))].map((backend) => {
    const own = rows.filter((row) => row.backend === backend).sort((a, b) => a.batch - b.batch);
    return {
      type: "scatter", mode: "lines+markers", name: escaped(backend), x: own.map((row) => row.batch), y: own.map((row) => row.rate),
      line: { color: color(backend) }, marker: { symbol: symbol(backend), size: 8 },
      hoverinfo: "text", hovertext: own.map((row) => `${escaped(backend)}, batch ${row.batch}<br>${figure(row.rate)} texts/s`),
    };
  });
  drawKey("sweep", rows);
  draw("sweep", all, `texts/s of calls with a whole batch, over the batch size; higher is better.`, origin(latest), traces,
    layout({ title: { text: "texts in a call" }, type: "log", tickvals: sizes, ticktext: sizes.map(String) }, { title: { text: "texts/s, higher is better" }, rangemode: "tozero" }));
}

function drawLoad() {
  const latest = kind().latest.load, all = latest.rows.filter((row) => row.points.length), rows = shown(all);
  const traces = rows.map((row) => ({
    type: "scatter", mode: "lines+markers", showlegend: false, name: `${escaped(row.backend)} ${row.batching}`,
    x: row.points.map((point) => point.rate), y: row.points.map((point) => point[point.drawn]),
    line: { color: color(row.backend), dash: DASHES[row.batching] || "longdash" }, marker: { symbol: row.points.map((point) => symbol(row.backend) + (point.drawn === "p99" ? "" : "-open")), size: 7 },
    hoverinfo: "text", hovertext: row.points.map((point) => `${escaped(row.backend)}, batching: ${escaped(row.batching)}<br>${figure(point.rate)} requests/s<br>${point.drawn} ${figure(point[point.drawn])} ms, p50 ${figure(point.p50)} ms<br>kept ${figure(100 * point.kept, 3)} %`),
  }));
  for (const batching of new Set(rows.map((row) => row.batching))) {
    traces.push({ type: "scatter", mode: "lines", name: escaped(batching), x: [null], y: [null], line: { color: style("--ink"), dash: DASHES[batching] || "longdash" } });
  }
  const promise = rows.map((row) => row.promise_ms).find((value) => value != null);
  const shapes = promise == null ? [] : [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: promise, y1: promise, line: { color: style("--ink"), width: 3 }, opacity: 0.35 }];
  const promised = promise == null ? "" : ` The thick grey line is the promise of ${figure(promise)} ms.`;
  const hollow = rows.some((row) => row.points.some((point) => point.drawn !== "p99")) ? " A hollow marker is a p95 or p50: too few answers for a p99." : "";
  drawKey("load", rows);
  draw("load", all, `p99 in ms over the rate at which requests come; lower, and further to the right, is better.${promised}${hollow}`, origin(latest), traces,
    layout({ title: { text: "requests/s" }, rangemode: "tozero" }, { title: { text: "p99 in ms, lower is better" }, type: "log", tickvals: ROUND, ticktext: ROUND.map((value) => figure(value)) }, { showlegend: true, shapes }));
}

const followed = () => kind().series[state.metric] || [];

function visibleSeries() {
  return shown(followed()).filter((row) => row.batch === 0 || String(row.batch) === state.batch);
}

// Where all runs have one time, Plotly's own axis would span a millisecond.
function around(times) {
  const day_ms = 86_400_000, at = Date.parse(times[0]);
  return times.some((time) => time !== times[0]) ? {} : { range: [at - day_ms, at + day_ms], dtick: day_ms };
}

function drawHistory() {
  const rows = visibleSeries(), runs = kind().runs, metric = data.metrics[state.metric];
  const time = (row, index) => runs[row.at[index]].time;
  const traces = rows.map((row) => ({
    type: "scatter", mode: row.at.length > 60 ? "lines" : "lines+markers", name: escaped(row.name),
    x: row.at.map((run) => runs[run].time), y: row.value, customdata: row.at,
    line: { color: color(row.backend), width: 1.5 }, marker: { size: 6, symbol: symbol(row.backend) },
    hoverinfo: "text", hovertext: row.value.map((value, index) => `${escaped(row.name)}<br>${figure(value)}<br>${escaped(runs[row.at[index]].name)}<br>${escaped(runs[row.at[index]].commit.slice(0, 12))}`),
  }));
  const changed = rows.flatMap((row) => row.changes.map((change) => ({ row, change })));
  if (changed.length) traces.push({
    type: "scatter", mode: "markers", name: "changes", x: changed.map(({ row, change }) => time(row, change.at)), y: changed.map(({ row, change }) => row.value[change.at]),
    customdata: changed.map(({ row, change }) => row.at[change.at]),
    marker: { symbol: "star-diamond", size: 14, color: changed.map(({ row }) => color(row.backend)), line: { width: 1.5, color: style("--ink") } },
    hoverinfo: "text", hovertext: changed.map(({ row, change }) => `${escaped(row.name)} changed for good: ${row.is_log ? percent(change.effect) : change.effect.toFixed(5)}<br>${escaped(runs[row.at[change.at]].name)}`),
  });
  const moved = runs.map((run, index) => ({ run, index })).filter(({ run, index }) => index > 0 && run.changed.length);
  const lowest = Math.min(...rows.flatMap((row) => row.value));
  if (rows.length && moved.length) traces.push({
    type: "scatter", mode: "markers", name: "dependencies", x: moved.map(({ run }) => run.time), y: moved.map(() => lowest), customdata: moved.map(({ index }) => index),
    marker: { symbol: "line-ns-open", size: 14, color: style("--quiet"), line: { width: 2 } },
    hoverinfo: "text", hovertext: moved.map(({ run }) => `dependencies changed<br>${run.changed.slice(0, 8).map((text) => escaped(text)).join("<br>")}`),
  });
  const bands = rows.length > FEW ? [] : rows.flatMap((row) => row.levels.map((level) => ({
    type: "rect", layer: "below", x0: time(row, level.start), x1: time(row, level.stop - 1), y0: level.low, y1: level.high, line: { width: 0 }, fillcolor: color(row.backend), opacity: 0.15,
  })));
  const unit = metric.relative ? `times ${kind().reference}'s` : metric.unit;
  // A benchmark of another suite has no reference: its median in seconds is followed.
  const measure = kind().reference ? `${state.metric}${unit ? ` in ${unit}` : ""}` : "median in s";
  const band = bands.length ? " Bands: where 95 % of runs lie between two changes."
    : rows.some((row) => row.levels.length) ? ` Choose up to ${FEW} backends to see bands: where 95 % of runs lie between two changes.` : "";
  drawKey("history", rows);
  draw("history", followed(), `${measure}, ${metric.better} is better. Stars: changes for good; short strokes: other dependencies.${band}`, "", traces,
    layout({ type: "date", nticks: innerWidth < 600 ? 4 : 0, ...around([cursor().x0, ...traces.flatMap((trace) => trace.x)]) }, { title: { text: innerWidth < 600 ? "" : measure } }, { shapes: [cursor(), ...bands] }));
}

const cursor = () => ({ type: "line", yref: "paper", y0: 0, y1: 1, x0: kind().runs[state.run].time, x1: kind().runs[state.run].time, line: { color: style("--accent"), width: 1, dash: "dot" } });

function describeValue(row, at) {
  const digits = row.is_log ? 4 : 6, level = row.levels.find(({ start, stop }) => start <= at && at < stop);
  const range = level ? ` (95 % of its level's runs: ${figure(level.low, digits)} to ${figure(level.high, digits)})` : "";
  return `${row.name}: ${figure(row.value[at], digits)}${range}`;
}

function showRun(index) {
  const runs = kind().runs, run = runs[index];
  state.run = index;
  $("run").max = runs.length - 1;
  $("run").value = index;
  $("run-number").textContent = `${index + 1} of ${runs.length}`;
  const values = visibleSeries().map((row) => [row, row.at.indexOf(index)]).filter(([, at]) => at >= 0).map(([row, at]) => describeValue(row, at));
  const rows = [
    ["File", run.name], ["Time", run.time], ["Commit", run.commit || "unknown"],
    [state.metric, ...(values.length ? values : ["not measured"])],
    ["Changed since the run before", run.changed.join(", ") || "nothing of the environment"],
    ["Environment", run.environment.join(", ")],
  ];
  const list = element("dl");
  for (const [name, ...texts] of rows) list.append(element("dt", name), ...texts.map((text) => element("dd", text)));
  $("details").replaceChildren(list);
}

function selectRun(index) {
  showRun(index);
  // Only the cursor moves: drawing a thousand runs of ten backends takes longer than a step of the slider.
  if ($("history").data) Plotly.relayout("history", { "shapes[0].x0": cursor().x0, "shapes[0].x1": cursor().x1 });
}

function options(place, values, chosen) {
  place.replaceChildren(...values.map(([value, text]) => element("option", text, { value })));
  place.value = chosen;
}

function fillFilters() {
  const chosen = kind();
  const sizesOf = (rows) => sorted(rows.map((row) => row.batch).filter(Boolean)).map(String);
  const sizes = sizesOf([...chosen.latest.latency.rows, ...followed()]), ofMetric = sizesOf(followed());
  // A metric measured at some batch sizes only is shown at one of them.
  const available = ofMetric.length ? ofMetric : sizes;
  if (!available.includes(state.batch)) state.batch = available.includes("32") ? "32" : available[0] || "";
  options($("batch"), sizes.map((size) => [size, size]), state.batch);
  options($("metric"), Object.keys(data.metrics).filter((name) => (chosen.series[name] || []).length || name === state.metric).map((name) => [name, name]), state.metric);
  $("backends").replaceChildren(...chosen.backends.map((backend) => {
    const label = element("label"), box = element("input", undefined, { type: "checkbox", value: backend });
    box.checked = !state.hidden.has(backend);
    box.addEventListener("change", () => { box.checked ? state.hidden.delete(backend) : state.hidden.add(backend); drawAll(); });
    label.append(box, swatch(backend), element("span", clipped(backend, 64)));
    return label;
  }));
  $("subtitle").textContent = `${chosen.runs.length} run${chosen.runs.length === 1 ? "" : "s"} on ${chosen.hardware_class}`;
}

function drawAll() {
  // On paper, the text beside each select names what is chosen.
  for (const select of document.querySelectorAll("select")) select.nextElementSibling.textContent = select.selectedOptions[0]?.text ?? "none";
  showRun(Math.min(state.run, kind().runs.length - 1));
  drawHistory();
  drawLatency();
  drawBars("throughput", "texts/s, higher is better: sustained, in batches of like length.", "texts/s", "rate");
  drawBars("cost", `dollars per million texts, lower is better: at ${data.price_per_hour} dollars an hour, kept busy.`, "dollars per million texts", "cost");
  drawFidelity();
  drawSweep();
  drawLoad();
  drawTables();
  const history = $("history");
  if (history.on && !history.dataset.clicks) {
    history.dataset.clicks = "yes";
    history.on("plotly_click", (event) => selectRun(event.points[0].customdata));
  }
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = theme === "dark" ? "Light" : "Dark";
}

function chooseKind(index) {
  state.kind = index;
  state.run = kind().runs.length - 1;
  fillFilters();
  drawAll();
}

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
setTheme(prefersDark.matches ? "dark" : "light");
prefersDark.addEventListener("change", () => { setTheme(prefersDark.matches ? "dark" : "light"); drawAll(); });
$("theme").addEventListener("click", () => { setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"); drawAll(); });
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("kind").addEventListener("change", () => chooseKind(Number($("kind").value)));
$("batch").addEventListener("change", () => { state.batch = $("batch").value; drawAll(); });
$("metric").addEventListener("change", () => { state.metric = $("metric").value; fillFilters(); drawAll(); });
$("run").addEventListener("input", () => selectRun(Number($("run").value)));
// Paper is white and narrow, whatever the screen's theme and width.
let screenTheme = "light";
addEventListener("beforeprint", () => {
  screenTheme = document.documentElement.dataset.theme;
  setTheme("light");
  drawAll();
  for (const chart of document.querySelectorAll(".js-plotly-plot")) Plotly.relayout(chart, { width: 680, height: 300 });
});
addEventListener("afterprint", () => {
  setTheme(screenTheme);
  drawAll();
  for (const chart of document.querySelectorAll(".js-plotly-plot")) Plotly.relayout(chart, { autosize: true });
});
$("notes").replaceChildren(...data.notes.map((note) => element("li", note)));
options($("kind"), data.kinds.map((each, index) => [index, each.label]), 0);
chooseKind(0);
