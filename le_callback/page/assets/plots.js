// Charts over the run. Everything that comes from a run goes into the page as text.

export const SVG = "http://www.w3.org/2000/svg";
const LEFT = 54, RIGHT = 10, STRIP = 14, TOP = STRIP + 6, BOTTOM = 20;

export function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key in node && key !== "list") node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function draw(tag, attributes = {}, content = null) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (content !== null) node.textContent = content;
  return node;
}

export function shown(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (size >= 1e6 || (size > 0 && size < 1e-3)) {
    const [mantissa, exponent] = value.toExponential(Math.max(0, digits - 1)).split("e");
    return `${Number(mantissa)}e${Number(exponent)}`.replaceAll("-", "−");
  }
  const rounded = Number(value.toPrecision(digits));
  return (size >= 1000 ? Math.round(value) : rounded).toLocaleString("en-US", { maximumFractionDigits: 6 })
    .replace("-", "−");
}

function ticks(low, high, most) {
  const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw) ?? raw;
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) {
    found.push(Math.abs(value) < step * 1e-9 ? 0 : value);
  }
  return found;
}

function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const m of high / low > 300 ? [1] : [1, 2, 5]) {
      const value = m * 10 ** power;
      if (value >= low && value <= high) found.push(value);
    }
  }
  const every = Math.ceil(found.length / 6);
  return found.filter((_, i) => i % every === 0);
}

const share = (values, part) => values[Math.min(values.length - 1, Math.max(0, Math.round(part * (values.length - 1))))];

// The range of an axis: all finite values; with `robust` the middle of them, so that a few wild ones do not flatten it.
function range(all, { log, robust, include = [] }) {
  const finite = all.filter((value) => Number.isFinite(value) && (!log || value > 0)).sort((a, b) => a - b);
  if (!finite.length) return log ? [0.1, 1] : [0, 1];
  let low = robust ? share(finite, 0.02) : finite[0], high = robust ? share(finite, 0.98) : finite.at(-1);
  for (const value of include) [low, high] = [Math.min(low, value), Math.max(high, value)];
  if (log) return low * 1.0001 >= high ? [low / 2, high * 2] : [low / 1.15, high * 1.15];
  const margin = (high - low || Math.abs(high) || 1) * 0.06;
  return [low - margin, high + margin];
}

// One chart. `describe` says what it is; `lines(run)` gives its lines: name, y, and low and high where there is a band.
export class Chart {
  constructor(describe, view) {
    Object.assign(this, { describe, view });
    this.legend = make("div", { className: "legend" });
    this.svg = draw("svg", { role: "img", tabindex: "0", "aria-label": `${describe.title}. ${describe.note}` });
    this.body = make("div", { className: "plot" }, this.svg);
    const notes = make("p", { className: "note" }, describe.note);
    for (const [word, told] of [["Healthy", describe.healthy], ["Trouble", describe.trouble], ["Look for", describe.look]]) {
      if (told) notes.append(" ", make("b", {}, `${word}:`), ` ${told}`);
    }
    this.node = make("section", { className: "chart" },
      make("h3", {}, describe.title, make("span", { className: "unit" }, describe.unit ? `, ${describe.unit}` : "")),
      notes, this.legend, this.body);
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerdown", (event) => this.point(event));
  }

  point(event) {
    if (!this.x) return;
    const box = this.svg.getBoundingClientRect();
    this.view.seek(this.x.invert(event.clientX - box.left));
  }

  draw() {
    const width = this.body.clientWidth, height = this.body.clientHeight;
    if (!width || !height) return;
    const runs = this.view.shownRuns();
    this.sets = runs.map((run, i) => ({ run, i, lines: this.describe.lines(run).slice(0, i ? 1 : 6) }));
    const all = this.sets.flatMap(({ lines }) => lines.flatMap((line) => [...line.y, ...(line.low ?? []), ...(line.high ?? [])]));
    const sure = this.sets.flatMap(({ lines }) => lines.flatMap((line) => (line.low ? line.y.filter((_, n) => line.low[n] > 0 || line.high[n] < 0) : [])));
    const y = this.yScale(all, sure.filter(Number.isFinite), height);
    this.x = this.view.xScale(LEFT, width - RIGHT);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const marks = draw("g");
    this.drawGrid(marks, y, width, height);
    if (runs[0]) this.drawEvents(marks, runs[0], height);
    const clip = `clip${Chart.count = (Chart.count ?? 0) + 1}`;
    const inside = draw("g", { "clip-path": `url(#${clip})` });
    for (const set of [...this.sets].reverse()) this.drawLines(inside, set, y);
    this.cursor = draw("line", { class: "cursor", y1: STRIP, y2: height - BOTTOM });
    this.dots = draw("g");
    const defs = draw("clipPath", { id: clip });
    defs.append(draw("rect", { x: LEFT, y: TOP - 2, width: Math.max(0, width - LEFT - RIGHT), height: Math.max(0, height - TOP - BOTTOM + 4) }));
    this.svg.replaceChildren(defs, marks, inside, this.cursor, this.dots);
    if (runs[0] && !all.some(Number.isFinite)) {
      this.svg.append(draw("text", { class: "nothing", x: (LEFT + width) / 2, y: height / 2, "text-anchor": "middle" }, this.describe.nothing ?? "nothing is known yet"));
    }
    this.y = y;
    this.moveCursor();
  }

  yScale(all, sure, height) {
    const { log, robust, include = [] } = this.describe;
    const ends = sure.length ? sure.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [sure[0], sure[0]]) : [];
    const [low, high] = range(all, { log, robust, include: [...include, ...ends] });
    const to = log ? Math.log10 : (value) => value, a = to(low), b = to(high);
    const scale = (value) => height - BOTTOM - ((to(value) - a) / (b - a)) * (height - TOP - BOTTOM);
    return Object.assign(scale, { low, high, ticks: log ? logTicks(low, high) : ticks(low, high, Math.max(2, height / 38)) });
  }

  drawGrid(group, y, width, height) {
    const rows = y.ticks;
    for (const value of rows) {
      group.append(draw("line", { class: value === 0 && !this.describe.log ? "zero" : "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
        draw("text", { class: "tick", x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, shown(value)));
    }
    for (const value of this.x.ticks(width)) {
      const anchor = this.x(value) > width - RIGHT - 18 ? "end" : "middle";
      group.append(draw("text", { class: "tick", x: this.x(value) + (anchor === "end" ? RIGHT - 2 : 0), y: height - 6, "text-anchor": anchor }, shown(value)));
    }
    for (const { at, label } of this.describe.references?.(this.view.primary()) ?? []) {
      if (!(at >= y.low && at <= y.high)) continue;
      group.append(draw("line", { class: "reference", x1: LEFT, x2: width - RIGHT, y1: y(at), y2: y(at) }),
        draw("text", { class: "tick", x: width - RIGHT - 2, y: y(at) - 3, "text-anchor": "end" }, label));
    }
  }

  // Verdicts along the top, with their words where they fit; alerts as a stretch with a triangle where it begins.
  drawEvents(group, run, height) {
    for (const [from, to, word] of run.verdicts()) {
      const x = this.view.xOf(run, from, this.x), end = Math.max(x + 1, this.view.xOf(run, to, this.x));
      const box = draw("rect", { class: `verdict ${verdictClass(word)}`, x, y: 0, width: end - x, height: STRIP });
      box.append(draw("title", {}, `${word}, steps ${shown(from, 9)} to ${shown(to, 9)}`));
      group.append(box);
      if (from && end - x > 12) group.append(draw("line", { class: "change", x1: x, x2: x, y1: 0, y2: height - BOTTOM }));
      if (end - x > 6.2 * word.length + 6) {
        group.append(draw("text", { class: "word", x: x + 4, y: STRIP - 3.5 }, word));
      }
    }
    for (const event of run.events) {
      if (event.kind !== "rate") continue;
      const x = this.view.xOf(run, event.step, this.x);
      group.append(draw("line", { class: "jump", x1: x, x2: x, y1: STRIP, y2: height - BOTTOM }),
        draw("text", { class: "tick", x: x + 3, y: STRIP + 12 }, factor(event)));
    }
    for (const [from, to, event] of run.alertSpans()) {
      const x = this.view.xOf(run, from, this.x), end = Math.max(x + 2, this.view.xOf(run, to, this.x));
      const bottom = height - BOTTOM;
      const box = draw("rect", { class: "alerted", x, y: STRIP, width: end - x, height: bottom - STRIP });
      const flag = draw("path", { class: "flag", d: `M${x - 5} ${bottom}h10l-5 -9z` });
      for (const node of [box, flag]) node.append(draw("title", {}, `${event.rule}, step ${shown(event.step, 9)}: ${event.cause}`));
      group.append(box, flag);
    }
  }

  drawLines(group, { run, i, lines }, y) {
    const place = (step) => this.view.xOf(run, step, this.x);
    lines.forEach((line, j) => {
      const steps = line.steps ?? run.rows.map((row) => row.step), style = `line ${i ? `run${i % 7}` : `tone${j % 6}`}`;
      const usable = (value) => Number.isFinite(value) && (!this.describe.log || value > 0);
      const within = (value) => Math.min(Math.max(y(value), -1e4), 1e4).toFixed(1);
      if (line.low && !i) {
        let piece = [];
        const close = () => {
          if (piece.length > 1) {
            const up = piece.map(([x, , high]) => `${x} ${within(high)}`), down = piece.map(([x, low]) => `${x} ${within(low)}`);
            group.append(draw("path", { class: `band tone${j % 6}`, d: `M${up.join("L")}L${down.reverse().join("L")}z` }));
          }
          piece = [];
        };
        const bottom = this.describe.log ? y.low / 10 : NaN; // a lower end that the noise hides
        steps.forEach((step, n) => {
          const low = usable(line.low[n]) ? line.low[n] : bottom;
          if (usable(low) && usable(line.high[n])) piece.push([place(step).toFixed(1), low, line.high[n]]);
          else close();
        });
        close();
      }
      let path = "", pen = "M";
      steps.forEach((step, n) => {
        if (!usable(line.y[n])) {
          pen = "M";
          return;
        }
        path += `${pen}${place(step).toFixed(1)} ${within(line.y[n])}`;
        pen = "L";
      });
      if (path) group.append(draw("path", { class: style, d: path }));
    });
  }

  moveCursor() {
    if (!this.x || !this.cursor) return;
    const at = this.view.cursorX(this.x);
    for (const key of ["x1", "x2"]) this.cursor.setAttribute(key, at);
    this.dots.replaceChildren();
    const items = [];
    for (const { run, i, lines } of this.sets) {
      lines.forEach((line, j) => {
        const steps = line.steps, index = steps ? last(steps, this.view.stepNow()) : run.indexAt("rows", this.view.stepNow());
        const value = line.y[index], tone = i ? `run${i % 7}` : `tone${j % 6}`;
        const ends = line.low && !i && Number.isFinite(line.low[index]) ? ` (${shown(line.low[index])} to ${shown(line.high[index])})` : "";
        const more = line.more?.(index) ?? "";
        items.push(make("span", { className: `key ${tone}` }, make("i"),
          `${i ? run.name : line.name} `, make("b", {}, `${shown(value)}${ends}`), more ? ` ${more}` : "",
          !more && Number.isNaN(value) && this.describe.nothing ? ` ${this.describe.nothing}` : ""));
        if (Number.isFinite(value) && (!this.describe.log || value > 0) && index >= 0) {
          const step = steps ? steps[index] : run.rows[index].step;
          const height = Math.min(Math.max(this.y(value), TOP - 2), 1e4);
          this.dots.append(draw("circle", { class: `dot ${tone}`, cx: this.view.xOf(run, step, this.x), cy: height, r: 3 }));
        }
      });
    }
    this.legend.replaceChildren(...(items.length ? items : ["no data yet"]));
  }
}

function last(steps, step) {
  let found = -1;
  steps.forEach((value, i) => {
    if (value <= step) found = i;
  });
  return found;
}

const GOOD = ["separating"], DONE = ["separated", "converged"], SLOW = ["stalled", "critical"], BAD = ["losing", "not separating"];

// How the learning rate jumped.
function factor(event) {
  const times = Number(event.factor);
  return times >= 1 ? `rate × ${shown(times)}` : `rate ÷ ${shown(1 / times)}`;
}

export function verdictClass(word) {
  if (GOOD.includes(word)) return "good";
  if (DONE.includes(word)) return "done";
  if (SLOW.includes(word)) return "slow";
  if (BAD.includes(word)) return "bad";
  return word === "at chance" ? "chance" : "open";
}

// A scale of steps, or of what was trained until then, shared by all charts.
export function axis(kind, high) {
  return (left, right) => {
    const log = kind === "log", to = log ? (value) => Math.log10(Math.max(value, 1)) : (value) => value;
    const low = log ? 1 : 0, a = to(low), b = Math.max(to(high), a + 1e-12);
    const scale = (value) => left + ((to(value) - a) / (b - a)) * (right - left);
    const invert = (x) => {
      const part = a + (Math.min(Math.max((x - left) / (right - left), 0), 1)) * (b - a);
      return log ? 10 ** part : part;
    };
    const marks = (width) => (log ? logTicks(low, high) : ticks(low, high, Math.max(2, width / 110)));
    return Object.assign(scale, { invert, ticks: marks });
  };
}
