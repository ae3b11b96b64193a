"""Write the README's picture and findings from the demo, or check that they are current.

python tools/readme.py            write
python tools/readme.py --check    exit 1 if the words differ from what the demo finds
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from wattshed.demo import run_demo
from wattshed.records import Plan
from wattshed.report.charts import to_svg

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PICTURE = ROOT / "docs/images/regions.svg"
BEGIN, END = "<!-- demo:begin -->\n", "<!-- demo:end -->"


def findings(plan: Plan) -> str:
    """The demo's verdict and its most telling rows, in Markdown."""
    rows = [
        "| policy | energy | the plan saves | 95 % interval | mean runtime |",
        "|---|---:|---:|---:|---:|",
        f"| **exact plan** | **{plan.energy_j / 3.6e6:.3f} kWh** | | |"
        f" **{plan.runtime_s_mean:.2f} s** |",
    ]
    for b in plan.baselines:
        interval = f"{b.saving.low:.2f} to {b.saving.high:.2f} %" if b.saving else "none"
        rows.append(
            f"| {b.name} | {b.energy_j / 3.6e6:.3f} kWh | {b.saving_pct:.2f} % | {interval} |"
            f" {b.runtime_s_mean:.2f} s |"
        )
    return f"\n> {plan.verdict}\n\n" + "\n".join(rows) + "\n\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    demo = run_demo()
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    new = before + BEGIN + findings(demo.plan) + END + after
    if check:
        if new != text:
            print("README.md: the demo finds something else; run `python tools/readme.py`")
        return int(new != text)
    README.write_text(new, encoding="utf-8")
    charts = [chart for section in demo.document.sections for chart in section.charts]
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(to_svg(next(c for c in charts if c.slug == "regions")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
