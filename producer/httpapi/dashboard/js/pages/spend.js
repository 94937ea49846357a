// What was spent today: against the budget, in both currencies, and against the dearest model.

import { cny, count, usd } from "../format.js";
import { h, keyed, setText } from "../dom.js";
import { card, meter } from "../parts.js";

const share = (spent, limit) => (limit ? spent / limit : 0);
const of = (spent, limit, sign) => `${sign(spent)} of ${limit ? sign(limit) : "no limit"}`;

export function spendOf() {
  const dollars = meter("budget in US dollars");
  const yuan = meter("budget in yuan");
  const scopes = h("div", { class: "scopes" });
  const spent = meter("what was spent");
  const dearest = meter("what the dearest model would have cost");
  const times = h("p", { class: "times" });
  const note = h("p", { class: "note" });
  const row = (label, bar) => h("div", { class: "spend-row" }, h("span", { text: label }), bar.node);
  const node = card("Spend today", { class: "spend" }, row("USD", dollars), row("CNY", yuan), scopes,
    h("h3", { text: "Against the dearest model" }), row("spent", spent), row("dearest", dearest), times, note);
  return {
    node,
    show({ status }) {
      const spend = status.spend;
      if (!spend) return;
      dollars.set(share(spend.usd, spend.budget_usd), of(spend.usd, spend.budget_usd, usd));
      yuan.set(share(spend.cny, spend.budget_cny), of(spend.cny, spend.budget_cny, cny));
      const most = Math.max(spend.usd, spend.dearest_usd ?? 0);
      spent.set(share(spend.usd, most), usd(spend.usd), "good");
      dearest.set(share(spend.dearest_usd ?? 0, most), usd(spend.dearest_usd), "plain");
      const names = [spend.dearest_models ?? []].flat().join(", ");
      setText(times, spend.usd > 0 && spend.dearest_usd > spend.usd ? `${(spend.dearest_usd / spend.usd).toFixed(1)} times as much with ${names || "the dearest model"}` : "");
      setText(note, spend.maybe_billed_usd > 0 ? `${usd(spend.maybe_billed_usd)} of it may have been billed: calls whose price nobody knows` : "");
      const others = (status.budget ?? []).filter((s) => s.scope !== "all");
      keyed(scopes, others.slice(0, 6), (s) => s.scope, (s) => {
        const bar = meter(`budget of ${s.scope}`);
        const line = row(s.scope.replace(":", " "), bar);
        line.bar = bar;
        return line;
      }, (line, s) => line.bar.set(share(s.spent_usd, s.limit_usd), of(s.spent_usd, s.limit_usd, usd)));
      if (others.length > 6) setText(note, `and ${count(others.length - 6)} further budgets: forebay status`);
    },
  };
}
