"""A picture of the tab in TensorBoard, ``tab.png``, and how long it took to draw.

python tests/page/screenshots.py LOGDIR [FOLDER]
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from page.browser import chromium, complaints, drawn, hosts, missing, open_tab, tensorboard, until


def main(logdir, folder="."):
    if told := missing():
        sys.exit(told)
    with tensorboard(logdir) as address, chromium() as driver:
        began = open_tab(driver, address)
        until(lambda: drawn(driver))
        seconds = time.monotonic() - began
        driver.switch_to.default_content()
        driver.save_screenshot(str(Path(folder) / "tab.png"))
        print(f"drawn {seconds:.1f} s after the page was asked for")
        print(f"console errors: {complaints(driver) or 'none'}; hosts asked: {', '.join(sorted(hosts(driver)))}")


if __name__ == "__main__":
    main(*sys.argv[1:])
