"""Pictures of the tab in TensorBoard, and how long it took to draw.

    python tests/page/screenshots.py LOGDIR [FOLDER]    of the newest run: tab.png
    python tests/page/screenshots.py five [FOLDER]      of five small trainings, healthy ones and others: run_….png

The second also prints what the first line answers.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from page.browser import chromium, complaints, drawn, enter, hosts, missing, open_tab, tensorboard, until
from page.trained import train

FIVE = {
    "healthy": {"steps": 250, "rate": 0.01, "distance": 1.4, "every": 5},
    "mixed_pair": {"steps": 1500, "distance": 1.4, "every": 10, "mixed": (3, 7)},
    "rate_x100": {"steps": 1000, "distance": 0.9, "every": 10, "jump": 600},
    "at_chance": {"steps": 1500, "rate": 0.02, "every": 10, "blind": True, "each": 600},
    "converged": {"steps": 4000, "rate": 0.1, "distance": 1.6, "every": 20},
}


def main(logdir, folder="."):
    if told := missing():
        sys.exit(told)
    if logdir == "five":
        with tempfile.TemporaryDirectory() as runs:
            for name, settings in FIVE.items():
                train(runs, name, **settings)
            pictures(runs, Path(folder))
        return
    with tensorboard(logdir) as address, chromium() as driver:
        began = open_tab(driver, address)
        until(lambda: drawn(driver))
        seconds = time.monotonic() - began
        driver.switch_to.default_content()
        driver.save_screenshot(str(Path(folder) / "tab.png"))
        print(f"drawn {seconds:.1f} s after the page was asked for")
        print(f"console errors: {complaints(driver) or 'none'}; hosts asked: {', '.join(sorted(hosts(driver)))}")


def pictures(runs, folder):
    """A picture of each run, and its first line."""
    with tensorboard(runs) as address, chromium() as driver:
        open_tab(driver, address)
        for name in FIVE:
            until(
                lambda: (
                    driver.execute_script("return document.querySelectorAll('.picker li button').length") == len(FIVE)
                )
            )
            buttons = "[...document.querySelectorAll('.picker li button')]"
            driver.execute_script(f"{buttons}.find((n) => n.textContent === arguments[0]).click()", name)
            until(lambda name=name: drawn_or_empty(driver, name))
            time.sleep(0.5)
            cells = "return [...document.querySelectorAll('.answers > div')].map((n) => n.innerText.split('\\n'))"
            print(f"\n{name}")
            for question, *answer in driver.execute_script(cells):
                print(f"  {question} {' | '.join(answer)}")
            for alert in driver.execute_script(
                "return [...document.querySelectorAll('.alert')].map((n) => n.innerText)"
            ):
                print(f"  {alert}")
            driver.switch_to.default_content()
            driver.save_screenshot(str(folder / f"run_{name}.png"))
            enter(driver)


def drawn_or_empty(driver, name):
    """Whether the charts of a run are there; at chance there is no line in some of them."""
    shown = "return document.querySelector('.picker summary').textContent"
    ticks = "return document.querySelectorAll('.four svg .tick').length"
    return driver.execute_script(shown) == name and driver.execute_script(ticks) > 8


if __name__ == "__main__":
    main(*sys.argv[1:])
