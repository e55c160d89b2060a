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
    const word = text(row.verdict, 60), worst = run.worst(row), alerts = run.standing(row);
    const since = Number.isSafeInteger(row.since) ? row.since : null, why = Array.isArray(row.why) ? row.why.map((line) => text(line)).join(" · ") : "";
    const D = worst ? number(worst[2]) : NaN;
    const keys = Array.isArray(row.todo) ? row.todo.filter((key) => typeof key === "string") : [word];
    const filled = { pair: worst ? worst.slice(0, 2).map((k) => run.className(k)).join(" / ") : "", step: shown(number(row.jump?.[0]), 12), factor: shown(number(row.jump?.[1])) };
    const advice = keys.map((key) => text(run.head.advice[key])).join(" ").replace(/{(pair|step|factor)}/g, (_, name) => filled[name]);
    const todo = alerts.length ? alerts.map((alert) => text(alert.advice)).join(" ") : advice || "–";
    const missing = row.missing > 0 ? `${shown(row.missing)} ${row.missing === 1 ? "class" : "classes"} without samples. ` : "";
    const cell = (question, answer, detail, style = "") => make("div", {}, make("dt", {}, question),
      make("dd", { className: style, title: answer }, answer), make("dd", { className: "detail", title: detail }, detail));
    this.node.replaceChildren(
      cell("Is it separating?", word || "not known yet", why, `answer ${verdictClass(word)}`),
      cell("How fast?", ...split(text(row.rate) || "not known yet")),
      keys.includes("alike") ? cell("Which pair is worst?", "no pair stands out", "half of all pairs are mixed (D below 0.5)")
        : cell("Which pair is worst?", worst ? worst.slice(0, 2).map((k) => run.className(k)).join(" / ") : "not known yet",
        worst ? `${pairWord(D)}: D ${shown(D)} (overlap below 2)` : ""),
      cell("Since when?", since === null ? "not known yet" : since ? `step ${shown(since, 12)}` : "the start", since === null ? "" : `for ${shown(row.step - since, 12)} steps`),
      cell("What to do?", `${missing}${todo}`, "", "todo"));
    this.alerts.replaceChildren(...alerts.map((alert) => make("p", { className: "alert", title: text(alert.cause) }, make("b", {}, `▲ ${text(alert.rule, 60)}`),
      ` since step ${shown(alert.step, 12)}: ${text(alert.cause)} ${text(alert.advice)}`)));
  }
}

// The part before a semicolon or bracket is the answer, the rest its detail.
function split(sentence) {
  const cut = sentence.search(/[;(:]/);
  if (cut < 0) return [sentence, ""];
  return [sentence.slice(0, cut).trim(), sentence.slice(cut).replace(/^[;:]\s*/, "")];
}
