// Forecasts against what came: a chart of its own time axis, as a forecast looks beyond the run.
import { number, text } from "./data.js";
import { Chart, axis, make, shown } from "./plots.js";

const MOST = 1000; // points of a curve

function curves(value, count) {
  if (!Array.isArray(value) || value.length !== count || !value.every(Array.isArray)) return null;
  const found = value.map((curve) => curve.slice(0, MOST).map(number));
  return found.every((curve) => curve.length === found[0].length) ? found : null;
}

// The chart of a forecast as the data file holds it; null where there is nothing to draw.
export function readOutlook(value) {
  if (value === null || typeof value !== "object") return null;
  const measured = curves(value.measured, 2), bands = curves(value.bands, 4);
  if (!measured) return null;
  return { measured, bands, madeAt: number(value.made_at), unit: text(value.unit, 40) || "step", ratio: value.ratio === true,
    level: number(value.level), share: number(value.confidence), why: text(value.why, 300) };
}

function describe(outlook) {
  const { measured, bands, madeAt, unit, ratio, level, share, why } = outlook;
  const lines = [{ name: "measured", steps: measured[0], y: measured[1] }];
  if (bands) lines.unshift({ name: "forecast", steps: bands[0], y: bands[2], low: bands[1], high: bands[3] });
  return {
    title: `Forecast made at ${unit} ${shown(madeAt, 12)}`, unit: ratio ? "gap of the worst pair in deviations, log axis" : "gap of the worst pair, log axis",
    log: true, include: ratio ? [level] : [], lines: () => lines, nothing: "nothing is known yet",
    note: bands ? `Where the worst pair was expected to go: median, and ${shown(100 * share)}% of the simulated futures as a band.`
      : `No forecast: ${why || "too early"}.`,
    healthy: "what was measured stays in the band.", trouble: "it leaves the band below: something has changed since.",
    references: () => (ratio ? [{ at: level, label: `${shown(level)} deviation${level === 1 ? "" : "s"}` }] : []),
  };
}

// What a chart asks of the page, for a chart that has no cursor and no run behind it.
function still(outlook) {
  const end = Math.max(outlook.measured[0].at(-1) ?? 0, outlook.bands?.[0].at(-1) ?? 0, 1e-9);
  const run = { name: "", rows: [], events: [], verdicts: () => [], alertSpans: () => [] };
  return { shownRuns: () => [run], primary: () => run, stepNow: () => Infinity, seek: () => {}, xOf: (_, time, scale) => scale(time),
    xScale: (left, right) => axis("step", end)(left, right), cursorX: (scale) => scale(outlook.madeAt) };
}

// The newest forecast and the one before it, of which most has come.
export class Outlooks {
  constructor() {
    this.box = make("div", { className: "small" });
    this.node = make("details", { hidden: true, ontoggle: () => this.drawOpen() }, make("summary", {}, "forecast against what came"), this.box);
    this.charts = [];
  }

  draw(run) {
    const newest = run.events.filter((event) => event.kind === "forecast" && Array.isArray(event.charts)).at(-1);
    const found = (newest?.charts ?? []).slice(0, 2).map(readOutlook).filter(Boolean);
    this.node.hidden = !found.length;
    if (newest !== this.newest || !newest) {
      this.newest = newest;
      this.charts = found.map((outlook) => new Chart(describe(outlook), still(outlook)));
      this.box.replaceChildren(...this.charts.map((chart) => chart.node));
    }
    this.drawOpen();
  }

  drawOpen() {
    if (this.node.open) for (const chart of this.charts) chart.draw();
  }
}
