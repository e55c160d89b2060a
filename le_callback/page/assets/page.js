// The page: its parts, its state, and what the user does with it.
import { Run } from "./data.js";
import { Chart, axis, make, shown } from "./plots.js";
import { Clouds, Matrix, worstTable } from "./classes.js";
import { CHARTS, pairChart } from "./charts.js";
import { Answers } from "./answers.js";
import { More } from "./more.js";

const GUIDE = "https://github.com/le-callback/le_callback/blob/main/docs/guide.md";
const MOST_SHOWN = 12; // runs side by side

export class View {
  constructor(root, source) {
    Object.assign(this, { root, source, runs: new Map(), names: [], chosen: [], cursor: null, pair: null, kind: "D",
      layer: "logits", clustered: true, of: "widest", zoom: false, xKind: "step", filter: "", playing: 0 });
    root.className = "le-page";
    this.answers = new Answers();
    this.more = new More(this);
    root.replaceChildren(this.header(), this.answers.node, this.answers.alerts,
      this.problem = make("p", { className: "problem", role: "status" }), this.charts(), this.classes(), this.more.node);
    new ResizeObserver(() => this.draw()).observe(root);
    document.addEventListener("keydown", (event) => this.key(event));
    this.follow();
  }

  // The parts of the page, once.

  header() {
    this.picker = make("details", { className: "picker" }, this.pickerTitle = make("summary", {}, "no run"),
      this.pickerBox = make("div", { className: "box" },
        make("input", { type: "search", placeholder: "find a run", ariaLabel: "find a run", oninput: (event) => { this.filter = event.target.value; this.listRuns(); } }),
        make("p", { className: "note" }, "A name shows that run; a tick adds it to the charts."),
        this.pickerList = make("ul")));
    const axes = make("select", { ariaLabel: "horizontal axis", onchange: (event) => { this.xKind = event.target.value; this.draw(); } },
      ...[["step", "by step"], ["log", "by step, log axis"], ["lr", "by cumulative learning rate"]].map(([value, label]) => make("option", { value }, label)));
    this.endButton = make("button", { type: "button", className: "end", hidden: true, onclick: () => this.follow() }, "to the end");
    return make("header", {}, make("h1", {}, "Separability"), this.picker, this.answers.facts, this.endButton, axes,
      make("a", { href: GUIDE, target: "_blank", rel: "noopener noreferrer" }, "guide"));
  }

  charts() {
    this.four = CHARTS.map((describe) => new Chart(describe, this));
    return make("div", { className: "four" }, ...this.four.map((chart) => chart.node));
  }

  classes() {
    const choice = (name, options, key, parse = (value) => value) => make("label", {}, `${name} `,
      make("select", { onchange: (event) => { this[key] = parse(event.target.value); this.drawClasses(); } },
        ...options.map(([value, label]) => make("option", { value }, label))));
    this.slider = make("input", { type: "range", min: 0, value: 0, ariaLabel: "step", oninput: (event) => this.seekRow(Number(event.target.value)) });
    this.playButton = make("button", { type: "button", className: "play", onclick: () => this.play() }, "▶ play");
    this.stepShown = make("output");
    this.matrix = new Matrix(this);
    this.clouds = new Clouds(this);
    this.table = make("div");
    this.history = new Chart(pairChart(() => this.pair), this);
    this.history.node.classList.add("history");
    return make("section", { className: "classes" },
      make("div", { className: "time" }, make("h2", {}, "Classes at the cursor"), this.playButton, this.slider, this.stepShown),
      make("div", { className: "three" },
        make("section", {}, make("h3", {}, "Every pair"),
          make("div", { className: "choices" }, choice("show", [["D", "distance D"], ["cosine", "cosines"], ["E", "LE matrix E"]], "kind"),
            choice("of", [["logits", "logits"], ["features", "features"]], "layer"),
            choice("order", [["yes", "by cluster"], ["", "as given"]], "clustered", Boolean)), this.matrix.node),
        make("section", {}, make("h3", {}, "Worst pairs"), make("p", { className: "note" }, "Smallest distance D first, in deviations. Click on a pair for its history."), this.table, this.history.node),
        make("section", {}, make("h3", {}, "Class means"),
          make("div", { className: "choices" }, choice("plane", [["widest", "widest"], ["pair", "of the pair"]], "of"),
            choice("scale", [["", "same for the run"], ["yes", "fit each step"]], "zoom", Boolean)), this.clouds.node)));
  }

  // What is shown.

  primary() {
    return this.runs.get(this.chosen[0]) ?? null;
  }

  shownRuns() {
    return this.chosen.slice(0, MOST_SHOWN).map((name) => this.runs.get(name)).filter((run) => run && run.rows.length);
  }

  stepNow() {
    return this.cursor ?? this.primary()?.rows.at(-1)?.step ?? 0;
  }

  row() {
    const run = this.primary();
    return run?.rows[run.indexAt("rows", this.stepNow())] ?? run?.rows[0] ?? null;
  }

  frame() {
    const run = this.primary();
    return run?.frames[Math.max(0, run.indexAt("frames", this.stepNow()))] ?? null;
  }

  spentAt(run, step) {
    const index = run.indexAt("rows", step), row = run.rows[index], after = run.rows[index + 1];
    if (!row) return after ? (after.spent * step) / Math.max(1, after.step) : 0;
    return after ? row.spent + ((after.spent - row.spent) * (step - row.step)) / (after.step - row.step) : row.spent;
  }

  xScale(left, right) {
    const ends = this.shownRuns().map((run) => (this.xKind === "lr" ? run.rows.at(-1).spent : run.rows.at(-1).step));
    return axis(this.xKind, Math.max(...ends, 1e-9))(left, right);
  }

  xOf(run, step, scale) {
    return scale(this.xKind === "lr" ? this.spentAt(run, step) : step);
  }

  cursorX(scale) {
    const run = this.primary();
    return run ? this.xOf(run, this.stepNow(), scale) : -10;
  }

  // What the user does.

  seek(x) {
    const run = this.primary();
    if (!run?.rows.length) return;
    let index = 0, best = Infinity;
    run.rows.forEach((row, i) => {
      const distance = Math.abs((this.xKind === "lr" ? row.spent : row.step) - x);
      if (distance < best) [best, index] = [distance, i];
    });
    this.seekRow(index);
  }

  seekRow(index) {
    const rows = this.primary()?.rows ?? [];
    if (!rows.length) return;
    this.cursor = index >= rows.length - 1 ? null : rows[Math.max(0, index)].step;
    this.drawCursor();
  }

  follow() {
    this.cursor = null;
    this.drawCursor();
  }

  choosePair(pair) {
    this.pair = this.pair && String(this.pair) === String(pair) ? null : pair;
    this.drawClasses();
    this.history.draw();
  }

  play() {
    const frames = this.primary()?.frames ?? [];
    if (this.playing || frames.length < 2) {
      clearInterval(this.playing);
      this.playing = 0;
    } else {
      let at = this.cursor === null ? 0 : Math.max(0, this.primary().indexAt("frames", this.cursor));
      this.playing = setInterval(() => {
        if (at >= frames.length - 1) {
          this.play();
          return;
        }
        at = Math.min(frames.length - 1, at + Math.ceil(frames.length / 100));
        this.cursor = at === frames.length - 1 ? null : frames[at].step;
        this.drawCursor();
      }, 120);
    }
    this.playButton.textContent = this.playing ? "⏸ pause" : "▶ play";
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|BUTTON|TEXTAREA|SUMMARY)$/.test(event.target.tagName)) return;
    const run = this.primary();
    if (!run) return;
    const index = run.indexAt("rows", this.stepNow()), far = event.shiftKey ? 10 : 1;
    const to = { ArrowLeft: index - far, ArrowRight: index + far, Home: 0, End: run.rows.length - 1 }[event.key];
    if (to !== undefined) this.seekRow(to);
    else if (event.key === " ") this.play();
    else return;
    event.preventDefault();
  }

  show(name) {
    this.chosen = [name, ...this.chosen.filter((other) => other !== name && this.ticked?.has(other))];
    this.pair = null;
    this.cursor = null;
    this.load();
  }

  tick(name, on) {
    this.ticked ??= new Set();
    this.ticked[on ? "add" : "delete"](name);
    if (on && !this.chosen.includes(name)) this.chosen.push(name);
    if (!on && this.chosen.length > 1) this.chosen = this.chosen.filter((other) => other !== name);
    this.load();
  }

  // Data.

  async look() {
    try {
      const found = await this.source.list(), names = found.map(({ run }) => run);
      this.names = names;
      const newest = found.reduce((best, other) => (other.changed > best.changed ? other : best), found[0]);
      if (!this.chosen.length && names.length) this.chosen = this.source.all ? names.slice(0, MOST_SHOWN) : [newest.run];
      if (this.source.all && !this.ticked) this.ticked = new Set(this.chosen);
      this.lost = "";
    } catch {
      this.lost = "TensorBoard does not answer.";
    }
    await this.load();
  }

  async load() {
    for (const name of this.chosen) {
      if (!this.runs.has(name)) this.runs.set(name, new Run(name));
      const run = this.runs.get(name);
      try {
        while (await this.source.load(run));
        run.problem = "";
      } catch (error) {
        run.problem = error.message;
      }
    }
    this.listRuns();
    this.draw();
  }

  // Drawing.

  listRuns() {
    const wanted = this.filter.toLowerCase(), found = this.names.filter((name) => name.toLowerCase().includes(wanted));
    this.pickerTitle.textContent = this.chosen.length ? `${this.chosen[0]}${this.chosen.length > 1 ? ` and ${this.chosen.length - 1} more` : ""}` : "no run";
    this.pickerTitle.title = this.pickerTitle.textContent;
    this.pickerList.replaceChildren(...found.slice(0, 500).map((name) => {
      const place = this.chosen.indexOf(name), box = make("input", { type: "checkbox", checked: place >= 0, ariaLabel: `add ${name}`,
        onchange: (event) => this.tick(name, event.target.checked) });
      return make("li", { className: place === 0 ? "shown" : "" }, box, make("i", { className: place > 0 ? `swatch run${place % 7}` : "swatch" }),
        make("button", { type: "button", onclick: () => { this.picker.open = false; this.show(name); } }, name));
    }));
    this.picker.hidden = this.names.length < 1;
  }

  draw() {
    const run = this.primary();
    this.problem.textContent = this.lost || (run ? run.problem || (run.rows.length ? "" : "No window of this run has closed yet.")
      : this.names.length ? "" : "No run here has data of this page yet. Train with LECallback() and a logger that writes below this folder.");
    this.root.classList.toggle("empty", !run?.rows.length);
    if (!run?.rows.length) {
      this.answers.clear();
      return;
    }
    this.slider.max = run.rows.length - 1;
    const unit = run.head.unit;
    this.four[1].node.querySelector(".unit").textContent = `, per ${unit}`;
    for (const chart of this.four) chart.draw();
    this.more.draw(run);
    if (this.pair) this.history.draw();
    this.drawCursor();
  }

  drawCursor() {
    const run = this.primary(), row = this.row();
    if (!row) return;
    this.endButton.hidden = this.cursor === null;
    this.slider.value = Math.max(0, run.indexAt("rows", this.stepNow()));
    const frame = this.frame();
    this.stepShown.textContent = frame ? `step ${shown(frame.step, 12)}` : "no matrices yet";
    this.answers.draw(run, row);
    for (const chart of [...this.four, ...this.more.openCharts()]) chart.moveCursor();
    this.drawClasses();
  }

  drawClasses() {
    const run = this.primary(), frame = this.frame();
    if (!run) return;
    this.matrix.draw(run, frame, this);
    this.table.replaceChildren(worstTable(run, run.worstPairs(frame, this.layer), this));
    this.clouds.draw(run, frame, this);
    this.history.node.hidden = !this.pair;
    if (this.pair) {
      this.history.node.querySelector("h3").firstChild.textContent = this.pair.map((k) => run.className(k)).join(" / ");
      if (!this.history.x) this.history.draw();
      this.history.moveCursor();
    }
  }
}
