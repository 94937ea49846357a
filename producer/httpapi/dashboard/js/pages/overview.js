// The overview: everything that an operator looks at first. A tenant's key has its own, shorter one.

import { get } from "../api.js";
import { h, setHidden, soon } from "../dom.js";
import { latest, onFrame } from "../live.js";
import { problemBox } from "../parts.js";
import { Activity } from "./activity.js";
import { alertsOf, tilesOf } from "./glance.js";
import { endpointsOf, fleetOf, queuesOf, tiersOf, typesOf, waitsOf } from "./tables.js";
import { spendOf } from "./spend.js";
import { Feed } from "./feed.js";
import tenant from "./tenant.js";

async function mount(root, context) {
  if (!context.session.operator) return tenant(root, context);
  const head = h("div", { class: "page-head" }, h("h1", { text: "Overview" }));
  const wrong = h("div", { hidden: true });
  const activity = new Activity(context);
  head.append(activity.windows);
  const parts = [alertsOf(), tilesOf(), queuesOf(context), endpointsOf(), tiersOf(), typesOf(context), spendOf(), waitsOf(), fleetOf()];
  const [alerts, tiles, queues, endpoints, tiers, types, spend, waits, fleet] = parts;
  const feed = new Feed({ title: "Events", operator: true });
  root.append(head, wrong, alerts.node, tiles.node, activity.node,
    h("div", { class: "grid two-one" }, endpoints.node, spend.node),
    h("div", { class: "grid halves" }, queues.node, waits.node),
    h("div", { class: "grid halves" }, tiers.node, types.node),
    h("div", { class: "grid halves" }, feed.node, fleet.node));
  const state = { status: latest.status, activity: null };
  const draw = () => {
    if (state.status) for (const part of parts) soon(part, () => part.show(state));
  };
  activity.onChange = (data) => {
    state.activity = data;
    draw();
  };
  const end = onFrame((frame) => {
    if (frame.activity) activity.take(frame.activity);
    if (frame.status) {
      state.status = frame.status;
      setHidden(wrong, true);
      draw();
    }
    feed.take(frame);
  });
  if (!state.status) {
    // The stream says it too, a moment later, or not at all where something is wrong with it.
    get("/v1/status").then((status) => {
      state.status ??= status;
      draw();
    }, (problem) => {
      wrong.replaceChildren(problemBox(problem));
      setHidden(wrong, state.status !== null);
    });
  }
  draw();
  activity.load();
  const tick = setInterval(draw, 1000); // what is counted down
  return () => {
    end();
    clearInterval(tick);
    activity.destroy();
  };
}

export default { name: "overview", title: "Overview", mount };
