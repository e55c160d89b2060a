// What is folded: a chart for every other tag, the forecast, and what there is in words.
import { text } from "./data.js";
import { Chart, make, shown } from "./plots.js";
import { Outlooks } from "./outlook.js";

export class More {
  constructor(view) {
    Object.assign(this, { view, groups: new Map(), texts: [] });
    this.outlooks = new Outlooks();
    this.node = make("section", { className: "more" }, make("h2", {}, "More"), this.outlooks.node);
  }

  openCharts() {
    return [...this.groups.values()].flatMap(({ node, charts }) => (node.open ? charts : []));
  }

  // A fold for each chart of the registry, a small chart for each of its measurements, a line for each model or source.
  draw(run) {
    const found = new Map();
    for (const column of run.head.columns) {
      const about = run.head.about[column];
      if (!Array.isArray(about) || /_(low|high)$/.test(column)) continue;
      const [label, unit, meaning, look, group] = about.map((entry) => text(entry, 400));
      const charts = found.get(group) ?? found.set(group, new Map()).get(group), key = `${label}|${meaning}`;
      (charts.get(key) ?? charts.set(key, { label, unit, meaning, look, columns: [] }).get(key)).columns.push(column);
    }
    for (const [group, charts] of found) {
      if (this.groups.has(group)) continue;
      const box = make("div", { className: "small" }), node = make("details", { ontoggle: () => this.drawOpen() }, make("summary", {}, group), box);
      const made = [...charts.values()].map(({ label, unit, meaning, look, columns }) => new Chart({ title: label, unit, note: meaning, look, robust: true,
        lines: (of) => columns.map((column) => ({ name: subject(column, columns), y: of.column(column), low: of.lowHigh(column, "low"), high: of.lowHigh(column, "high") }))
          .filter((line) => line.y.some(Number.isFinite)) }, this.view));
      box.append(...made.map((chart) => chart.node));
      this.groups.set(group, { node, charts: made });
      this.node.append(node);
    }
    this.outlooks.draw(run);
    this.drawTexts(run);
    this.drawOpen();
  }

  drawOpen() {
    for (const chart of this.openCharts()) chart.draw();
  }

  drawTexts(run) {
    const open = this.texts.map((node) => node.open);
    for (const node of this.texts) node.remove();
    const listed = (pairs) => make("dl", { className: "texts" }, ...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
    const alerts = run.alertSpans().map(([from, to, event]) => [`step ${shown(from, 12)} to ${shown(to, 12)}: ${text(event.rule, 60)}`, `${text(event.cause)} ${text(event.advice)}`]);
    const forecasts = run.events.filter((event) => event.kind === "forecast").map((event) => [`step ${shown(event.step, 12)}`, text(event.text)]);
    const verdicts = run.verdicts().map(([from, to, word]) => [`step ${shown(from, 12)} to ${shown(to, 12)}`, word]);
    const settings = Object.entries({ le_callback: run.head.version, ...run.head.versions, ...run.head.settings }).map(([name, value]) => [name, text(value, 400)]);
    this.texts = [["all alerts", alerts], ["verdicts", verdicts], ["forecast", forecasts], ["settings and versions", settings]]
      .filter(([, pairs]) => pairs.length).map(([name, pairs]) => make("details", {}, make("summary", {}, name), listed(pairs)));
    this.texts.forEach((node, i) => { node.open = open[i] ?? false; });
    this.node.append(...this.texts);
  }
}

// What a tag is of among tags that differ in one part.
function subject(column, columns) {
  const parts = column.split("/");
  const differing = parts.filter((part, i) => columns.some((other) => other.split("/")[i] !== part));
  return (differing.length ? differing : parts.slice(-1)).join("/").replaceAll("_", " ");
}
