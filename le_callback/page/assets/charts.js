// The four charts of the first screen, and that of a pair: what they are and where their lines come from.
import { number } from "./data.js";
import { shown } from "./plots.js";

const GAP = "le/I_logits/amplitude_difference", GAMMA = "le/I_logits/gamma";
const ACCURACY = "separation/logits/nearest_mean_accuracy", ETF = "etf/{}/angle_deviation_deg";

function gapLines(run) {
  const K = run.head.count, scale = Math.sqrt(2 / Math.max(1, K - 1)), ends = (i) => run.rows.map((row) => number(row.gaps?.[i]));
  return [{ name: "typical pair", y: run.column(GAP).map((value) => value * scale), low: ends(0), high: ends(1) }];
}

function separabilityLines(run) {
  const worst = run.rows.map((row) => run.worst(row)), accuracy = run.column(ACCURACY);
  const pair = (index) => (worst[index] ? `(${worst[index].slice(0, 2).map((k) => run.className(k)).join(" / ")})` : "");
  const share = (index) => (Number.isFinite(accuracy[index]) ? `· nearest-mean accuracy ${shown(accuracy[index])}` : "");
  return [
    { name: "worst pair", y: worst.map((found) => (found ? number(found[2]) : NaN)), more: pair },
    { name: "median pair", y: run.rows.map((row) => number(row.median?.logits ?? row.median?.features)), more: share },
  ];
}

export const CHARTS = [
  { title: "Gap between classes", unit: "logits, log axis", log: true, lines: gapLines,
    nothing: "no gap stands out of the sampling noise",
    note: "Distance of two class means; the band runs from the nearest to the farthest pair.",
    healthy: "rises, then levels off.", trouble: "flat from the start; or the lower edge stays behind: a mixed pair." },
  { title: "Growth of the gap, γ", unit: "per step", robust: true, include: [0], nothing: "not known while no gap stands out",
    lines: (run) => [{ name: "γ", y: run.column(GAMMA), low: run.lowHigh(GAMMA, "low"), high: run.lowHigh(GAMMA, "high") }],
    note: "Rate at which the gap grows, with its interval.",
    healthy: "above 0 while the gap grows, then towards 0.", trouble: "at or below 0 before the classes are apart." },
  { title: "Held-out separability, D", unit: "deviations", robust: true, include: [0, 4], lines: separabilityLines,
    references: () => [{ at: 2, label: "overlap below 2" }],
    note: "Distance of two classes over their width, on samples that did not choose the direction.",
    healthy: "both rise above 4.", trouble: "the worst pair stays below 2: its classes overlap." },
  { title: "Distance from the ideal shape", unit: "degrees from a simplex ETF", include: [0, 10],
    lines: (run) => ["logits", "features"].map((layer) => ({ name: layer, y: run.column(ETF.replace("{}", layer)) })),
    note: "How unequal the angles between class means are.",
    healthy: "falls towards 0 late in training.", trouble: "rises again: some classes move together." },
];

export const pairChart = (pair) => ({
  title: "History of a pair", unit: "D in deviations", include: [0, 2], robust: true,
  note: "How far the two classes are apart over their width.", healthy: "rises above 4.",
  trouble: "stays below 2, where they overlap, or falls.", references: () => [{ at: 2, label: "overlap" }],
  lines: (run) => (pair() ? ["logits", "features"].map((layer) => {
    const [steps, y] = run.pairHistory(pair(), layer, "D");
    return { name: layer, steps, y };
  }) : []),
});
