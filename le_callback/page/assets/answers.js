// The first line: five answers, the standing alerts, and what the run is.
import { number, text } from "./data.js";
import { make, shown, verdictClass } from "./plots.js";
import { pairWord } from "./classes.js";

export class Answers {
  constructor() {
    this.facts = make("div", { className: "facts" });
    this.node = make("dl", { className: "answers" });
    this.alerts = make("div", { className: "alerts" });
  }

  clear() {
    for (const part of [this.node, this.alerts, this.facts]) part.replaceChildren();
  }

  draw(run, row) {
    const facts = [["step", shown(row.step, 12)], ["samples a window", shown(number(row.samples), 12)], ["classes", shown(run.head.count, 12)],
      ["own cost", `${shown(number(row.cost?.[0]), 2)} ms a step${number(row.cost?.[1]) >= 0 ? `, ${shown(100 * row.cost[1], 2)}%` : ""}`]];
    this.facts.replaceChildren(...facts.map(([name, value]) => make("span", {}, `${name} `, make("b", {}, value))));
    const alerts = run.standing(row);
    this.node.replaceChildren(verdictCell(row), cell("How fast?", ...split(text(row.rate) || "not known yet")), pairCell(run, row), sinceCell(row),
      cell("What to do?", todo(run, row, alerts), "", "todo"));
    this.drawAlerts(alerts);
  }

  // One line each: the cause; opened, all of it with what to do.
  drawAlerts(alerts) {
    const open = new Set([...this.alerts.querySelectorAll("details[open]")].map((node) => node.dataset.rule));
    this.alerts.replaceChildren(...alerts.map((alert) => {
      const rule = text(alert.rule, 60), node = make("details", { className: "alert", open: open.has(rule) },
        make("summary", { title: text(alert.cause) }, make("b", {}, `▲ ${rule}`), ` since step ${shown(alert.step, 12)}: ${text(alert.cause)}`), ` ${text(alert.advice)}`);
      node.dataset.rule = rule;
      return node;
    }));
  }
}

function cell(question, answer, detail, style = "", whole = detail) {
  return make("div", {}, make("dt", {}, question), make("dd", { className: style, title: answer }, answer),
    make("dd", { className: "detail", title: whole }, detail));
}

// Of the reasons the accuracy is shown; how fast it goes has its own place, and all of it is told under the pointer.
function verdictCell(row) {
  const word = text(row.verdict, 60), why = Array.isArray(row.why) ? row.why.map((line) => text(line)) : [];
  const clauses = (why[0] ?? "").split("; "), seen = clauses.filter((clause) => !clause.startsWith("the discriminability"));
  return cell("Is it separating?", word || "not known yet", (seen.length ? seen : clauses).join("; "), `answer ${verdictClass(word)}`, why.join("\n"));
}

function pairCell(run, row) {
  const question = "Which pair is worst?", worst = run.worst(row);
  if (keysOf(row).includes("alike")) return cell(question, "no pair stands out", "half of all pairs are mixed (D below 0.5)");
  if (!worst) return cell(question, "not known yet", "");
  const D = number(worst[2]);
  return cell(question, pairName(run, worst), `${pairWord(D)}: D ${shown(D)} (overlap below 2)`);
}

function sinceCell(row) {
  const since = row.since, question = "Since when?";
  if (!Number.isSafeInteger(since)) return cell(question, "not known yet", "");
  return cell(question, since ? `step ${shown(since, 12)}` : "the start", `for ${shown(row.step - since, 12)} steps`);
}

const pairName = (run, pair) => pair.slice(0, 2).map((k) => run.className(k)).join(" / ");
const keysOf = (row) => (Array.isArray(row.todo) ? row.todo.filter((key) => typeof key === "string") : [text(row.verdict, 60)]);

// What standing alerts advise, after a jump of the learning rate that may be their cause; else what the verdict does.
function todo(run, row, alerts) {
  const worst = run.worst(row), filled = { pair: worst ? pairName(run, worst) : "", step: shown(number(row.jump?.[0]), 12), factor: shown(number(row.jump?.[1])) };
  const keys = alerts.length ? keysOf(row).filter((key) => key === "jump") : keysOf(row);
  const advice = keys.map((key) => text(run.head.advice[key]).replace(/{(pair|step|factor)}/g, (_, name) => filled[name]));
  const missing = row.missing > 0 ? [`${shown(row.missing)} ${row.missing === 1 ? "class" : "classes"} without samples.`] : [];
  return [...missing, ...advice, ...new Set(alerts.map((alert) => text(alert.advice)))].filter(Boolean).join(" ") || "–";
}

// The part before a semicolon or bracket is the answer, the rest its detail.
function split(sentence) {
  const cut = sentence.search(/[;(:]/);
  if (cut < 0) return [sentence, ""];
  return [sentence.slice(0, cut).trim(), sentence.slice(cut).replace(/^[;:]\s*/, "")];
}
