// Puts the page into the tab and into a report.
import { make } from "./plots.js";
import { View } from "./page.js";

const EVERY = 5000; // milliseconds between looks at a run that is being written

function theme(root) {
  const query = matchMedia("(prefers-color-scheme: dark)");
  let outer = null;
  try {
    outer = window.parent !== window && window.parent.document.body;
  } catch {
    outer = null; // of another origin
  }
  const set = () => { root.dataset.theme = (outer ? outer.classList.contains("dark-mode") : query.matches) ? "dark" : "light"; };
  set();
  return (redraw) => {
    const change = () => { set(); redraw(); };
    query.addEventListener("change", change);
    if (outer) new MutationObserver(change).observe(outer, { attributes: true, attributeFilter: ["class"] });
  };
}

export function mount(root, source) {
  const watch = theme(document.documentElement), view = new View(root, source);
  watch(() => view.draw());
  view.look();
  if (source.live) setInterval(() => { if (!document.hidden) view.look(); }, EVERY);
  return view;
}

async function unpacked(packed) {
  const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
  return JSON.parse(await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text());
}

export async function renderReport(body, packed) {
  const root = make("main");
  body.append(root);
  const { runs } = await unpacked(packed);
  const found = new Map(runs.map(({ run, lines }) => [run, lines]));
  mount(root, {
    all: true,
    live: false,
    list: async () => runs,
    load: async (run) => {
      if (!run.rows.length) for (const line of found.get(run.name)) run.take(line);
      return false;
    },
  });
}
