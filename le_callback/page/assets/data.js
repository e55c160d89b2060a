// The data of a run: lines in, rows, frames and events out. What is not as it should be is left out, never drawn.

const LISTED = 4096; // names of classes that are kept

export function number(value) {
  if (typeof value === "number") return value;
  return value === "inf" ? Infinity : value === "-inf" ? -Infinity : NaN;
}

export function text(value, longest = 2000) {
  return typeof value === "string" ? value.slice(0, longest) : "";
}

const isStep = (value) => Number.isSafeInteger(value) && value >= 0;
const isPair = (pair) => Array.isArray(pair) && pair.length === 3 && isStep(pair[0]) && isStep(pair[1]);

// Half-precision numbers in base64, `expected` of them; null if there are more or fewer.
export function halves(packed, expected) {
  if (typeof packed !== "string" || packed.length > 4 * (2 * expected / 3 + 4)) return null;
  let bytes;
  try {
    bytes = atob(packed);
  } catch {
    return null;
  }
  if (bytes.length !== 2 * expected) return null;
  const found = new Float32Array(expected);
  for (let i = 0; i < expected; i++) {
    const half = bytes.charCodeAt(2 * i) | (bytes.charCodeAt(2 * i + 1) << 8);
    const exponent = (half >> 10) & 31, fraction = half & 1023;
    const size = exponent === 0 ? fraction * 2 ** -24
      : exponent === 31 ? (fraction ? NaN : Infinity)
      : (1024 + fraction) * 2 ** (exponent - 25);
    found[i] = half & 32768 ? -size : size;
  }
  return found;
}

export class Run {
  constructor(name) {
    this.name = name;
    this.clear();
  }

  clear() {
    this.id = "";
    this.next = 0;
    this.problem = "";
    this.head = { columns: [], about: {}, classes: [], settings: {}, versions: {}, advice: {}, unit: "step" };
    this.rows = [];
    this.frames = [];
    this.events = [];
    this.cache = new Map();
  }

  // What the server sends: a line about the answer, then lines of the file. True if more of it is there to be read.
  takeAnswer(answer) {
    const cut = answer.indexOf("\n");
    const about = JSON.parse(cut < 0 ? answer : answer.slice(0, cut));
    if (about.error) throw new Error(text(about.error));
    if (about.from === 0 || about.id !== this.id) {
      this.clear();
      this.id = about.id;
    }
    this.next = about.next;
    for (const line of cut < 0 ? [] : answer.slice(cut + 1).split("\n")) {
      if (!line) continue;
      try {
        this.take(JSON.parse(line));
      } catch {
        continue; // not JSON: a line of something else
      }
    }
    return about.next < about.size && about.next > about.from;
  }

  take(line) {
    if (line === null || typeof line !== "object") return;
    const taking = { head: this.takeHead, row: this.takeRow, frame: this.takeFrame }[line.kind];
    if (taking) taking.call(this, line);
    else if (["alert", "over", "verdict", "forecast", "rate"].includes(line.kind) && isStep(line.step)) this.events.push(line);
    this.cache.clear();
  }

  takeHead(line) {
    if (!Array.isArray(line.columns)) return;
    const after = isStep(line.after) ? line.after : 0;
    for (const part of ["rows", "frames", "events"]) this[part] = this[part].filter((old) => old.step <= after);
    const plain = (value) => (value !== null && typeof value === "object" ? value : {});
    this.head = {
      columns: line.columns.map((column) => text(column, 200)),
      about: plain(line.about),
      classes: Array.isArray(line.classes) ? line.classes.slice(0, LISTED).map((name) => text(name, 200)) : [],
      count: Array.isArray(line.classes) ? line.classes.length : 0,
      settings: plain(line.settings),
      versions: plain(line.versions),
      advice: plain(line.advice),
      version: text(line.version, 40),
      unit: text(line.unit, 40) || "step",
    };
  }

  takeRow(line) {
    const last = this.rows.at(-1);
    if (!isStep(line.step) || !Array.isArray(line.values) || (last && line.step <= last.step)) return;
    const previous = last ?? { step: 0, spent: 0 };
    const rate = number(line.rate_now);
    line.spent = previous.spent + (rate >= 0 && rate < 1e9 ? rate : 0) * (line.step - previous.step);
    line.alerts = Array.isArray(line.alerts) ? line.alerts.map((rule) => text(rule, 100)) : [];
    line.worst = line.worst !== null && typeof line.worst === "object" ? line.worst : {};
    this.rows.push(line);
  }

  takeFrame(line) {
    const last = this.frames.at(-1);
    if (isStep(line.step) && !(last && line.step <= last.step)) this.frames.push(line);
  }

  // Marks that turn the direction of writing are left out, and names in scripts from right to left kept to themselves.
  className(index) {
    const name = (this.head.classes[index] || String(index)).replace(/[\u202a-\u202e\u2066-\u2069]/g, "");
    return /[\u0590-\u08ff]/.test(name) ? `\u2068${name}\u2069` : name;
  }

  // Values of a tag in all rows. The unit of time may be part of its name.
  column(tag) {
    if (!this.cache.has(tag)) {
      const place = this.head.columns.findIndex((column) => column === tag || column.startsWith(`${tag}_per_`));
      this.cache.set(tag, this.rows.map((row) => (place < 0 ? NaN : number(row.values[place]))));
    }
    return this.cache.get(tag);
  }

  lowHigh(tag, end) {
    const unit = this.head.unit === "step" ? "" : `_per_${this.head.unit.replaceAll(" ", "_")}`;
    const found = this.column(`${tag}${unit}_${end}`);
    return found.some((value) => !Number.isNaN(value)) ? found : this.column(`${tag}_${end}`);
  }

  worst(row) {
    const found = row?.worst.logits ?? row?.worst.features;
    return isPair(found) ? found : null;
  }

  // The newest alert of each rule that stands at a row.
  standing(row) {
    const found = new Map();
    for (const event of this.events) {
      if (event.kind === "alert" && event.step <= row.step && row.alerts.includes(event.rule)) {
        found.set(event.rule, event);
      }
    }
    return [...found.values()];
  }

  // Stretches of one verdict as [from, to, word]; changes are known by step, whatever rows are kept.
  verdicts() {
    if (!this.cache.has(" verdicts")) {
      const end = this.rows.at(-1)?.step ?? 0, found = [];
      for (const event of this.events) {
        if (event.kind !== "verdict") continue;
        if (found.length) found.at(-1)[1] = event.step;
        found.push([found.length ? event.step : 0, end, text(event.name, 40)]);
      }
      this.cache.set(" verdicts", found);
    }
    return this.cache.get(" verdicts");
  }

  // Alerts as [from, to, event].
  alertSpans() {
    const end = this.rows.at(-1)?.step ?? 0, open = new Map(), found = [];
    for (const event of this.events) {
      if (event.kind === "alert" && !open.has(event.rule)) {
        const span = [event.step, end, event];
        open.set(event.rule, span);
        found.push(span);
      } else if (event.kind === "over" && open.has(event.rule)) {
        open.get(event.rule)[1] = event.step;
        open.delete(event.rule);
      }
    }
    return found;
  }

  // Index of the last row, or frame, at or before a step.
  indexAt(part, step) {
    let low = 0, high = this[part].length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this[part][middle].step <= step) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  // K × K values of a frame with their classes; null where it holds none.
  matrix(frame, layer, kind) {
    const source = kind === "E" ? frame?.E?.[layer] : frame?.layers?.[layer];
    const classes = source?.classes;
    if (!Array.isArray(classes) || classes.length > 512 || !classes.every(isStep)) return null;
    const K = classes.length;
    if (kind === "E") {
      const whole = halves(source.E, K * K);
      return whole && { classes, at: (i, j) => whole[i * K + j] };
    }
    const upper = halves(source[kind], (K * (K - 1)) / 2);
    if (!upper) return null;
    const place = (i, j) => i * K - (i * (i + 1)) / 2 + j - i - 1;
    return { classes, at: (i, j) => (i === j ? NaN : i < j ? upper[place(i, j)] : upper[place(j, i)]) };
  }

  worstPairs(frame, layer) {
    const found = frame?.layers?.[layer]?.worst;
    return Array.isArray(found) ? found.filter(isPair).slice(0, 50) : [];
  }

  clouds(frame) {
    const found = frame?.clouds, q = found?.q;
    if (!Array.isArray(found?.classes) || !(q >= 1 && q <= 16) || found.classes.length > 512) return null;
    const K = found.classes.length, size = (q * (q + 1)) / 2;
    const means = halves(found.means, K * q), covariances = halves(found.covariances, K * size);
    return means && covariances && { classes: found.classes, q, means, covariances, size };
  }

  // D or cosine of a pair over the frames, as [steps, values].
  pairHistory(pair, layer, kind) {
    const steps = [], values = [];
    for (const frame of this.frames) {
      const matrix = this.matrix(frame, layer, kind);
      let value = NaN;
      if (matrix) {
        const [i, j] = pair.map((k) => matrix.classes.indexOf(k));
        if (i >= 0 && j >= 0) value = matrix.at(i, j);
      } else if (kind === "D") {
        const found = this.worstPairs(frame, layer).find(([k, l]) => k === pair[0] && l === pair[1]);
        if (found) value = number(found[2]);
      }
      steps.push(frame.step);
      values.push(value);
    }
    return [steps, values];
  }
}
