// The classes at the cursor: every pair as a matrix, the worst pairs, and where the class means lie.
import { number, text } from "./data.js";
import { SVG, make, shown } from "./plots.js";

const MOST_NAMED = 24, MOST_LABELLED = 24;

export function pairWord(D) {
  if (!(D > -Infinity)) return "";
  return D < 0.5 ? "mixed" : D < 2 ? "overlapping" : D < 4 ? "nearly apart" : "apart";
}

function mix(from, to, part) {
  return from.map((value, i) => Math.round(value + (to[i] - value) * Math.min(Math.max(part, 0), 1)));
}

function colours(node) {
  const style = getComputedStyle(node);
  const read = (name) => {
    const hex = style.getPropertyValue(name).trim().slice(1);
    return [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16));
  };
  return { paper: read("--panel"), ink: read("--ink"), close: read("--bad"), far: read("--tone0") };
}

// From a value to a colour: what is wrong stands out from the paper.
function shade(kind, matrix, ideal, { paper, ink, close, far }) {
  if (kind === "D") return (D) => (D < 0 ? mix(close, ink, 0.35 - D / 3) : mix(close, paper, D / 6));
  let largest = 1e-12;
  for (let i = 0; i < matrix.classes.length; i++) {
    for (let j = 0; j < matrix.classes.length; j++) {
      const size = Math.abs(matrix.at(i, j));
      if (i !== j && Number.isFinite(size)) largest = Math.max(largest, size);
    }
  }
  const [low, middle, high] = kind === "E" ? [-largest, 0, largest] : [-1, ideal, 1];
  return (v) => (v >= middle ? mix(paper, close, (v - middle) / (high - middle)) : mix(paper, far, (middle - v) / (middle - low)));
}

// An order in which classes that are near each other stand together: average linkage, the nearest ends joined.
export function clusterOrder(matrix, kind) {
  const K = matrix.classes.length;
  const near = (i, j) => {
    const value = matrix.at(i, j);
    return Number.isNaN(value) ? 1e6 : kind === "D" ? value : -value;
  };
  let groups = Array.from({ length: K }, (_, i) => [i]);
  const distance = groups.map((_, i) => groups.map((__, j) => (i === j ? Infinity : (near(i, j) + near(j, i)) / 2)));
  const alive = new Set(groups.keys());
  while (alive.size > 1) {
    let best = [Infinity, -1, -1];
    for (const i of alive) for (const j of alive) if (i < j && (best[1] < 0 || distance[i][j] < best[0])) best = [distance[i][j], i, j];
    const [, i, j] = best, a = groups[i], b = groups[j];
    const ends = [[a, b], [a, [...b].reverse()], [[...a].reverse(), b], [[...a].reverse(), [...b].reverse()]];
    ends.sort((x, y) => near(x[0].at(-1), x[1][0]) - near(y[0].at(-1), y[1][0]));
    for (const k of alive) {
      if (k === i || k === j) continue;
      distance[i][k] = distance[k][i] = (a.length * distance[i][k] + b.length * distance[j][k]) / (a.length + b.length);
    }
    groups[i] = ends[0].flat();
    alive.delete(j);
  }
  return groups[[...alive][0]] ?? [];
}

export class Matrix {
  constructor(view) {
    this.view = view;
    this.canvas = make("canvas", { tabIndex: 0, role: "img" });
    this.told = make("p", { className: "told", ariaLive: "polite" });
    this.scale = make("p", { className: "note" });
    this.node = make("div", { className: "matrix" }, this.canvas, this.told, this.scale);
    this.cell = null;
    this.canvas.addEventListener("pointermove", (event) => this.hover(this.cellAt(event)));
    this.canvas.addEventListener("pointerleave", () => this.hover(null));
    this.canvas.addEventListener("click", (event) => this.choose(this.cellAt(event)));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
  }

  draw(run, frame, { kind, layer, clustered }) {
    this.run = run;
    this.kind = kind;
    const matrix = (this.matrix = run?.matrix(frame, layer, kind));
    this.canvas.hidden = !matrix;
    this.scale.textContent = "";
    if (!matrix) {
      const many = run && run.head.count > 100 && kind !== "E";
      this.told.textContent = many ? "More than 100 classes: the worst pairs are listed, the matrix is not kept."
        : kind === "E" ? "The LE matrix is measured with a probe: LECallback(probe=50)." : "No matrix at this step.";
      return;
    }
    const K = matrix.classes.length, sorting = `${layer} ${kind}`;
    if (clustered && (this.sorted?.run !== run || this.sorted.sorting !== sorting || this.sorted.K !== K || run.frames.length < 8)) {
      const end = run.matrix(run.frames.at(-1), layer, kind);
      const order = end && end.classes.length === K ? clusterOrder(end, kind) : matrix.classes.map((_, i) => i);
      this.sorted = { run, sorting, K, order };
    }
    this.order = clustered ? this.sorted.order : matrix.classes.map((_, i) => i);
    const told = { D: "Distance D of two classes over their width. Strong colour: they overlap (below 2); dark: they have changed sides.",
      cosine: `Cosine of two class means about their centre. Orange: closer than in a simplex ETF (${shown(-1 / (K - 1))}), blue: farther.`,
      E: "Measured E: row, the class that is changed; column, the class that is trained. Orange pulls, blue pushes." };
    this.scale.textContent = told[kind];
    this.canvas.ariaLabel = `${K} × ${K} matrix. ${told[kind]} Arrow keys move from pair to pair, Enter shows its history.`;
    this.paint();
    this.tell();
  }

  paint() {
    const { matrix, order, canvas } = this, K = order.length;
    const width = Math.min(canvas.parentElement.clientWidth, 460), ratio = window.devicePixelRatio || 1;
    const named = K <= MOST_NAMED;
    const edge = (this.edge = named ? Math.min(96, 14 + 6.2 * Math.max(...matrix.classes.map((k) => Math.min(12, this.run.className(k).length)))) : 4);
    const side = (this.side = (width - edge) / K), height = edge + side * K;
    Object.assign(canvas, { width: width * ratio, height: height * ratio });
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const pen = canvas.getContext("2d"), palette = colours(canvas);
    pen.scale(ratio, ratio);
    const tint = shade(this.kind, matrix, -1 / (K - 1), palette), css = (c) => `rgb(${c.join(" ")})`;
    const gap = K <= 40 ? 1 : 0, hole = css(mix(palette.paper, palette.ink, 0.12));
    pen.font = "11px system-ui, sans-serif";
    for (let i = 0; i < K; i++) {
      for (let j = 0; j < K; j++) {
        const value = matrix.at(order[i], order[j]), known = !Number.isNaN(value), own = i === j && this.kind !== "E";
        const colour = known && !own ? tint(value) : null;
        pen.fillStyle = colour ? css(colour) : hole;
        pen.fillRect(edge + j * side, edge + i * side, side - gap, side - gap);
        if (K <= 12 && colour) {
          const light = 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2] > 140;
          pen.fillStyle = light ? "#111" : "#fff";
          pen.textAlign = "center";
          pen.fillText(shown(value, 2), edge + (j + 0.5) * side, edge + (i + 0.5) * side + 4, side - 2);
        }
      }
    }
    pen.fillStyle = css(palette.ink);
    for (let i = 0; named && i < K; i++) {
      const name = this.run.className(matrix.classes[order[i]]), short = name.length > 12 ? `${name.slice(0, 11)}…` : name;
      pen.textAlign = "right";
      pen.fillText(short, edge - 4, edge + (i + 0.5) * side + 4, edge - 6);
      pen.save();
      pen.translate(edge + (i + 0.5) * side + 4, edge - 4);
      pen.rotate(-Math.PI / 2);
      pen.textAlign = "left";
      pen.fillText(short, 0, 0, edge - 6);
      pen.restore();
    }
    for (const [pair, wide] of [[this.view.pair, 2], [this.cell && this.pairOf(this.cell), 1.5]]) {
      if (!pair) continue;
      const [i, j] = pair.map((k) => order.findIndex((row) => matrix.classes[row] === k));
      if (i < 0 || j < 0) continue;
      pen.strokeStyle = css(palette.ink);
      pen.lineWidth = wide;
      for (const [row, column] of [[i, j], [j, i]]) pen.strokeRect(edge + column * side, edge + row * side, side - gap, side - gap);
    }
  }

  cellAt(event) {
    if (!this.matrix) return null;
    const box = this.canvas.getBoundingClientRect(), K = this.order.length;
    const j = Math.floor((event.clientX - box.left - this.edge) / this.side);
    const i = Math.floor((event.clientY - box.top - this.edge) / this.side);
    return i >= 0 && j >= 0 && i < K && j < K && i !== j ? [i, j] : null;
  }

  pairOf(cell) {
    return cell.map((place) => this.matrix.classes[this.order[place]]);
  }

  hover(cell) {
    if (!this.matrix || String(cell) === String(this.cell)) return;
    this.cell = cell;
    this.paint();
    this.tell();
  }

  tell() {
    const pair = this.cell ? this.pairOf(this.cell) : this.view.pair;
    const places = pair?.map((k) => this.matrix.classes.indexOf(k));
    if (!pair || places.some((place) => place < 0)) {
      this.told.textContent = "Point at a pair; click on it for its history.";
      return;
    }
    const value = this.matrix.at(...places), word = this.kind === "D" ? ` ${pairWord(value)}` : "";
    this.told.textContent = `${pair.map((k) => this.run.className(k)).join(" / ")}: ${this.kind === "cosine" ? "cosine" : this.kind} ${shown(value)}${word}`;
  }

  choose(cell) {
    if (cell) this.view.choosePair(this.pairOf(cell).sort((a, b) => a - b));
  }

  key(event) {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!this.matrix) return;
    if (move) {
      const K = this.order.length, [i, j] = this.cell ?? [0, 0];
      const next = [(i + move[0] + K) % K, (j + move[1] + K) % K];
      if (next[0] === next[1]) next[move[0] ? 0 : 1] = (next[move[0] ? 0 : 1] + (move[0] + move[1]) + K) % K;
      this.hover(next);
    } else if (event.key === "Enter" && this.cell) this.choose(this.cell);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

export function worstTable(run, pairs, view) {
  const rows = pairs.slice(0, 10).map(([k, l, D]) => {
    const names = [k, l].map((c) => run.className(c)).join(" / "), chosen = view.pair?.[0] === k && view.pair?.[1] === l;
    const button = make("button", { type: "button", className: "pair", onclick: () => view.choosePair([k, l]) }, names);
    button.setAttribute("aria-pressed", String(chosen));
    return make("tr", { className: chosen ? "chosen" : "" }, make("td", {}, button), make("td", { className: "figure" }, shown(number(D))),
      make("td", {}, pairWord(number(D))));
  });
  if (!rows.length) return make("p", { className: "told" }, "No pair is known at this step.");
  return make("table", {}, make("thead", {}, make("tr", {}, ...["pair", "D", ""].map((head) => make("th", {}, head)))), make("tbody", {}, ...rows));
}

// Two orthonormal directions (columns) in which the class means of the last frame lie widest; or that of a pair first.
export function plane(clouds, pair) {
  const { q, means, classes } = clouds, K = classes.length, centre = new Float64Array(q);
  const rows = [];
  for (let k = 0; k < K; k++) {
    const row = Array.from(means.slice(k * q, (k + 1) * q));
    if (row.every(Number.isFinite)) rows.push([classes[k], row]);
  }
  for (const [, row] of rows) row.forEach((value, i) => { centre[i] += value / rows.length; });
  const centred = rows.map(([, row]) => row.map((value, i) => value - centre[i]));
  const unit = (v) => {
    const size = Math.hypot(...v);
    return size > 1e-12 ? v.map((value) => value / size) : null;
  };
  const less = (v, w) => {
    const along = v.reduce((sum, value, i) => sum + value * w[i], 0);
    return v.map((value, i) => value - along * w[i]);
  };
  const ends = pair?.map((k) => rows.find(([name]) => name === k)?.[1]);
  const fixed = ends?.every(Boolean) ? unit(ends[0].map((value, i) => value - ends[1][i])) : null;
  let found = fixed ? [fixed] : [];
  while (found.length < Math.min(2, q)) {
    let v = unit(Array.from({ length: q }, (_, i) => Math.cos(1 + 2.3 * i + found.length)));
    for (let round = 0; round < 200; round++) {
      let next = new Array(q).fill(0);
      for (const row of centred) {
        const along = row.reduce((sum, value, i) => sum + value * v[i], 0);
        row.forEach((value, i) => { next[i] += along * value; });
      }
      for (const w of found) next = less(next, w);
      v = unit(next) ?? unit(found.reduce(less, v)) ?? v;
    }
    found.push(v);
  }
  if (found.length < 2) found.push(new Array(q).fill(0));
  return { directions: found, centre: Array.from(centre) };
}

function placed(clouds, { directions, centre }) {
  const { q, size } = clouds;
  return clouds.classes.map((name, k) => {
    const mean = Array.from(clouds.means.slice(k * q, (k + 1) * q), (value, i) => value - centre[i]);
    const [x, y] = directions.map((d) => d.reduce((sum, value, i) => sum + value * mean[i], 0));
    const packed = clouds.covariances.slice(k * size, (k + 1) * size), C = [];
    let at = 0;
    for (let i = 0; i < q; i++) for (let j = i; j < q; j++) (C[i] ??= [])[j] = (C[j] ??= [])[i] = packed[at++];
    const form = (a, b) => a.reduce((sum, value, i) => sum + value * C[i].reduce((inner, c, j) => inner + c * b[j], 0), 0);
    const [a, b] = directions;
    return { name, x, y, xx: form(a, a), xy: form(a, b), yy: form(b, b) };
  });
}

export class Clouds {
  constructor(view) {
    this.view = view;
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("role", "img");
    this.told = make("p", { className: "note" });
    this.node = make("div", { className: "clouds" }, this.svg, this.told);
  }

  draw(run, frame, { of, zoom }) {
    this.svg.replaceChildren();
    const end = run && [...run.frames].reverse().map((f) => run.clouds(f)).find(Boolean), now = run?.clouds(frame);
    if (!end || !now || end.q !== now.q) {
      this.told.textContent = "No class means at this step.";
      return;
    }
    const pair = this.view.pair ?? run.worstPairs(frame, "logits")[0]?.slice(0, 2);
    const flat = plane(end, of === "pair" ? this.view.pair ?? run.worstPairs(run.frames.at(-1), "logits")[0]?.slice(0, 2) : null);
    const points = placed(now, flat), frameOf = zoom ? points : placed(end, flat);
    const reach = ({ x, xx }, axis) => [x - 2 * Math.sqrt(xx || 0), x + 2 * Math.sqrt(xx || 0), axis];
    const span = (key) => frameOf.map((p) => reach({ x: p[key], xx: p[key + key] })).filter((ends) => ends.every((e) => e === undefined || Number.isFinite(e)));
    const side = 400, sizes = ["x", "y"].map((key) => span(key).flatMap(([a, b]) => [a, b]));
    const low = sizes.map((all) => Math.min(...all, 0)), high = sizes.map((all) => Math.max(...all, 0));
    const wide = Math.max(high[0] - low[0], high[1] - low[1], 1e-9) * 1.08;
    const to = (value, axis) => side / 2 + ((value - (low[axis] + high[axis]) / 2) / wide) * side;
    this.svg.setAttribute("viewBox", `0 0 ${side} ${side}`);
    this.svg.setAttribute("aria-label", `Class means of ${points.length} classes at step ${frame.step}`);
    const add = (tag, attributes, content) => {
      const node = document.createElementNS(SVG, tag);
      for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
      if (content) node.textContent = content;
      this.svg.append(node);
      return node;
    };
    const ordered = [...points].sort((a, b) => pair?.includes(a.name) - pair?.includes(b.name));
    for (const p of ordered) {
      if (!Number.isFinite(p.x) || !Number.isFinite(p.y)) continue;
      const marked = pair?.includes(p.name) ? (pair[0] === p.name ? " first" : " second") : "";
      const x = to(p.x, 0), y = side - to(p.y, 1);
      if (Number.isFinite(p.xx + p.yy + p.xy)) {
        const half = (p.xx + p.yy) / 2, apart = Math.hypot((p.xx - p.yy) / 2, p.xy), turn = -0.5 * Math.atan2(2 * p.xy, p.xx - p.yy);
        const radius = (variance) => Math.max(0.5, (2 * Math.sqrt(Math.max(variance, 0)) / wide) * side);
        const ring = add("ellipse", { class: `cloud${marked}`, cx: x, cy: y, rx: radius(half + apart), ry: radius(half - apart),
          transform: `rotate(${(turn * 180) / Math.PI} ${x} ${y})` });
        const title = document.createElementNS(SVG, "title");
        title.textContent = run.className(p.name);
        ring.append(title);
      }
      add("circle", { class: `mean${marked}`, cx: x, cy: y, r: 3 });
      if (points.length <= MOST_LABELLED || marked) {
        const name = run.className(p.name);
        add("text", { class: `name${marked}`, x: x + 5, y: y - 5 }, text(name, 200).length > 16 ? `${name.slice(0, 15)}…` : name);
      }
    }
    this.told.textContent = `Class means of the logits with ellipses of two deviations (86% of a normal class), in one plane for the whole run: `
      + (of === "pair" ? "the marked pair lies along the horizontal." : "the one in which the last means lie widest. Classes that overlap here may be apart in other directions.");
  }
}
