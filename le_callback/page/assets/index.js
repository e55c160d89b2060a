// The tab in TensorBoard: the page with data from the routes of the plugin.
import { make } from "./plots.js";
import { mount } from "./mount.js";

async function ask(route, query = {}) {
  const address = new URL(`.${route}`, import.meta.url);
  for (const [key, value] of Object.entries(query)) address.searchParams.set(key, value);
  const answer = await fetch(address);
  if (!answer.ok) throw new Error((await answer.json()).error ?? `TensorBoard answers ${answer.status}`);
  return answer.text();
}

export function render() {
  const style = make("link", { rel: "stylesheet", href: new URL("./style.css", import.meta.url).href });
  const root = make("main");
  const start = () => mount(root, {
    live: true,
    list: async () => JSON.parse(await ask("/runs")).runs,
    load: async (run) => run.takeAnswer(await ask("/data", { run: run.name, id: run.id, from: run.next })),
  });
  style.addEventListener("load", start, { once: true });
  style.addEventListener("error", start, { once: true });
  document.head.append(style);
  document.body.append(root);
}
