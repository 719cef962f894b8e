"""The look of a backtest's report. Colours are those of the staff pages; nothing is told by colour alone."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root {
  color-scheme: light dark;
  --page: #f4f5f6; --card: #ffffff; --rule: #dde1e5; --ink: #1c2024; --second: #5b6470;
  --up: #1f66b0; --down: #4a5058; --exit: #9b2c93;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171b; --card: #1b1f24; --rule: #363d46; --ink: #e6e8eb; --second: #9aa3ae;
    --up: #6cb2f0; --down: #b4bbc4; --exit: #e38bdd;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 14px/20px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
}
main { max-width: 1120px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { margin: 0 0 16px; font-size: 22px; line-height: 28px; }
h2 { margin: 0 0 12px; font-size: 15px; }
section { margin: 0 0 16px; padding: 16px; background: var(--card); border: 1px solid var(--rule); border-radius: 6px; }
.wide { overflow-x: auto; }
.wide:focus-visible { outline: 2px solid var(--ink); outline-offset: 2px; }
p { margin: 0 0 8px; max-width: 80ch; }
.second, caption, figcaption { color: var(--second); font-size: 12px; line-height: 16px; }
figure { margin: 0; }
figcaption { margin: 4px 0 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 0 0 8px; }
th { font-weight: 500; text-align: left; color: var(--second); font-size: 12px; }
th, td { padding: 5px 12px 5px 0; border-bottom: 1px solid var(--rule); vertical-align: top; white-space: nowrap; }
td.words, th.words { white-space: normal; min-width: 16ch; }
td.number, th.number { text-align: right; }
dl { display: grid; grid-template-columns: minmax(12ch, max-content) minmax(0, 1fr); gap: 4px 16px; margin: 0; }
dt { color: var(--second); }
dd { margin: 0; overflow-wrap: anywhere; }
ol.road { display: flex; flex-wrap: wrap; gap: 8px 24px; margin: 0; padding: 0; list-style: none; }
ol.road b { display: block; font-size: 18px; font-weight: 600; font-variant-numeric: tabular-nums; }
ul { margin: 0; padding: 0 0 0 20px; }
meter { width: 160px; height: 8px; background: var(--rule); }
meter::-webkit-meter-bar { background: var(--rule); border: 0; border-radius: 0; height: 8px; }
meter::-webkit-meter-optimum-value { background: var(--second); }
meter::-moz-meter-bar { background: var(--second); }
svg { display: block; width: 100%; min-width: 640px; height: auto; font-size: 11px; }
svg text { fill: var(--second); font-variant-numeric: tabular-nums; }
svg .grid { stroke: var(--rule); fill: none; }
svg .line { stroke: var(--up); fill: none; stroke-width: 1.5; }
svg .fall { stroke: var(--down); fill: var(--rule); }
svg .wick { stroke: var(--down); fill: none; }
svg .rise { stroke: var(--down); fill: var(--card); }
svg .drop { stroke: var(--down); fill: var(--down); }
svg .entry { fill: var(--up); stroke: var(--card); }
svg .exit { fill: var(--card); stroke: var(--exit); stroke-width: 1.5; }
@media print { section { break-inside: avoid; } }
"""
