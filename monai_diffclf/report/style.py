# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The style sheet of a report: light and dark, screen and paper."""

from __future__ import annotations

__all__ = ["STYLE"]

_LIGHT = """
  --page: #ffffff; --panel: #f6f7f8; --ink: #1b1f23; --muted: #636a72; --line: #d9dcdf; --wrong: #b3261e;
  --class-0: #0072b2; --class-1: #c75200; --class-2: #00835f;
  --class-3: #b0578a; --class-4: #a06b00; --class-5: #2f8fc4;
"""
_DARK = """
  --page: #14171a; --panel: #1d2125; --ink: #e8eaec; --muted: #9aa2aa; --line: #343a40; --wrong: #ff8a80;
  --class-0: #4da6dd; --class-1: #f08a43; --class-2: #2fc09a;
  --class-3: #dd9bc2; --class-4: #e6b34d; --class-5: #8accf2;
"""
_RULES = """
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  -webkit-print-color-adjust: exact; print-color-adjust: exact;
}
main { max-width: 1080px; margin: 0 auto; padding: 56px 28px 72px; }
h1 { margin: 0 0 12px; font-size: 32px; line-height: 1.2; font-weight: 650; letter-spacing: -0.015em; }
h2 { margin: 64px 0 6px; font-size: 22px; line-height: 1.3; font-weight: 650; letter-spacing: -0.01em; }
h3 { margin: 32px 0 2px; font-size: 16px; font-weight: 650; }
p { margin: 0 0 12px; max-width: 70ch; }
.lead { font-size: 18px; }
.muted, .fine, .split { color: var(--muted); }
.notice { margin: 20px 0 0; padding: 10px 16px; max-width: none;
  border-left: 3px solid var(--wrong); background: var(--panel); }

.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 20px; margin: 32px 0 0; }
.facts dt { color: var(--muted); font-size: 13px; }
.facts dd { margin: 0; font-size: 18px; font-variant-numeric: tabular-nums; }

.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 16px; margin: 20px 0 0; }
.tile { padding: 16px 18px; border-radius: 8px; background: var(--panel); break-inside: avoid; }
.tile h3 { margin: 0; }
.tile > p { margin: 2px 0 14px; font-size: 13px; line-height: 1.4; color: var(--muted); min-height: 4.2em; }
.rule { display: grid; grid-template-columns: 1fr auto; align-items: baseline; margin-top: 12px; }
.rule .name { font-size: 13px; }
.rule .value { font-size: 22px; font-weight: 650; font-variant-numeric: tabular-nums; }
.rule .range { grid-column: 1 / -1; font-size: 13px; color: var(--muted); font-variant-numeric: tabular-nums; }
.whisker { grid-column: 1 / -1; position: relative; height: 4px; margin: 4px 0;
  border-radius: 2px; background: var(--line); }
.whisker span { position: absolute; top: 0; height: 4px; border-radius: 2px; background: var(--muted); }
.whisker i { position: absolute; top: -3px; width: 3px; height: 10px; margin-left: -1.5px; background: var(--ink); }

.cards { display: grid; grid-template-columns: repeat(3, 1fr); gap: 24px 20px; margin: 14px 0 0; }
.cards.single { grid-template-columns: repeat(6, 1fr); }
.card { margin: 0; break-inside: avoid; }
.card svg { display: block; width: 100%; height: auto; border-radius: 4px; }
.card p { margin: 0; max-width: none; }
.card .outline {
  fill: none; stroke: #ffe14d; stroke-width: 1.5px; vector-effect: non-scaling-stroke; stroke-linecap: square;
}
.verdict, .fine { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 10px; }
.verdict { margin-top: 8px !important; font-size: 14px; }
.verdict b { font-weight: 650; }
.right { color: var(--muted); }
.wrong { color: var(--wrong); font-weight: 650; }
.votes { display: flex; height: 8px; margin: 6px 0 2px; border-radius: 4px; overflow: hidden; background: var(--line); }
.split, .fine { font-size: 13px; line-height: 1.45; font-variant-numeric: tabular-nums; }
.c0 { color: var(--class-0); } .c1 { color: var(--class-1); } .c2 { color: var(--class-2); }
.c3 { color: var(--class-3); } .c4 { color: var(--class-4); } .c5 { color: var(--class-5); }

.plots { display: grid; grid-template-columns: repeat(2, 1fr); gap: 36px 40px; margin: 8px 0 0; }
.plot { margin: 0; break-inside: avoid; }
.plot h3 { margin: 0 0 6px; }
.plot svg { display: block; width: 100%; height: auto; overflow: visible; }
.plot svg * { stroke-linejoin: round; stroke-linecap: butt; }
.plot svg text { font-family: inherit !important; }
.plot figcaption { margin-top: 8px; font-size: 14px; line-height: 1.5; color: var(--muted); }

table { border-collapse: collapse; margin: 12px 0 0; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  font-weight: 400; }
th { color: var(--muted); width: 260px; padding-right: 24px; }
.scroll { overflow-x: auto; }
.numbers { width: auto; min-width: 60%; }
.numbers th, .numbers td { width: auto; padding: 7px 20px 7px 0; }
.numbers td, .numbers tr:first-child th + th { text-align: right; white-space: nowrap; }
.numbers.classes tr:first-child th[colspan] { text-align: center; }
.numbers.classes tr:nth-child(2) th { text-align: right; font-size: 13px; }
.numbers small { display: block; font-size: 12px; color: var(--muted); }
.numbers th:first-child { min-width: 8em; max-width: 22em; overflow-wrap: break-word; }
.scroll + p { margin-top: 8px; }
.missing { margin: 16px 0 0; padding: 0 0 0 20px; color: var(--muted); }
td.wrong { font-weight: 400; }

.part { margin-top: 72px; padding-top: 28px; border-top: 2px solid var(--line); }
.part > h1 { font-size: 27px; }
.part h2 { margin-top: 44px; }
.part h1 + section h2 { margin-top: 12px; }
.findings { font-size: 14px; }
.numbers.findings th, .numbers.findings td { padding-right: 14px; }
.findings th:first-child { min-width: 5em; }
.findings a { color: inherit; }
.maps { width: auto; min-width: 0; }
.maps th, .maps td { width: 190px; min-width: 150px; max-width: 220px; padding: 8px 12px 8px 0; border: 0;
  overflow-wrap: anywhere; }
.maps svg { display: block; width: 100%; height: auto; border-radius: 4px; }
.maps p { margin: 4px 0 0; }
.maps .outline {
  fill: none; stroke: #ffe14d; stroke-width: 1.5px; vector-effect: non-scaling-stroke; stroke-linecap: square;
}

.matrices { display: flex; flex-wrap: wrap; gap: 24px 48px; margin: 8px 0 0; }
.matrix { margin: 0; max-width: 100%; break-inside: avoid; }
.matrix h3 { margin: 12px 0 0; }
.confusion { width: auto; font-size: 14px; }
.confusion th, .confusion td { border: 0; padding: 6px 8px; width: auto; vertical-align: middle; }
.confusion tr > th:first-child { padding-left: 0; min-width: 6em; max-width: 16em;
  overflow-wrap: break-word; text-align: right; }
.confusion .corner { font-size: 12px; vertical-align: bottom; }
.confusion td { --share: 0%; min-width: 38px; text-align: center; border: 2px solid var(--page); border-radius: 6px; }
.confusion td.hit { background: color-mix(in srgb, var(--class-0) var(--share), var(--panel)); }
.confusion td.miss { background: color-mix(in srgb, var(--class-1) var(--share), var(--panel)); }
.turned tr:first-child th + th { vertical-align: bottom; text-align: left; }
.turned tr:first-child th span { display: block; margin: 0 auto; max-height: 14em; overflow: hidden;
  writing-mode: vertical-rl; transform: rotate(180deg); text-overflow: ellipsis; white-space: nowrap; }

@media (max-width: 860px) {
  .tiles, .cards, .plots { grid-template-columns: repeat(2, 1fr); }
  .cards.single { grid-template-columns: repeat(3, 1fr); }
}
@media (max-width: 620px) {
  main { padding: 32px 16px 48px; }
  .tiles, .cards, .plots { grid-template-columns: 1fr; }
  .tile > p { min-height: 0; }
  th { width: 45%; }
}
@media print {
  @page { margin: 16mm; }
  body { font-size: 12px; }
  main { max-width: none; padding: 0; }
  h2 { margin-top: 32px; }
  h2, h3 { break-after: avoid; }
}
"""

# Paper is white: the dark colours are for screens only.
STYLE = (
    f":root {{ color-scheme: light dark; {_LIGHT} }}"
    f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}"
    f"{_RULES}"
)
