"""A headless Chromium, and TensorBoard as a user starts it."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def missing():
    """What keeps the browser from running here; empty where nothing does."""
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        return "no chromium with chromedriver is installed (apt-get install chromium chromium-driver)"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed (pip install selenium)"
    return ""


@contextmanager
def chromium(width=1280, height=800):
    """A browser with an empty profile that keeps what its console said and what it asked for."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for switch in (*SWITCHES, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(switch)
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        resize(driver, width, height)
        try:
            yield driver
        finally:
            driver.quit()


def resize(driver, width, height, dark=False):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def until(found, seconds=20.0):
    """What ``found()`` gives once that is true; fails with its last value."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, f"not within {seconds} s: {value!r}"
        time.sleep(0.05)
    return value


def drawn(driver):
    """Whether verdict and four charts are there."""
    script = (
        "return document.querySelectorAll('.answers dd').length > 4 &&"
        " [...document.querySelectorAll('.four .chart')].filter((c) => c.querySelector('path.line')).length === 4"
    )
    return driver.execute_script(script)


def complaints(driver):
    """What the console says of errors since the last call."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def hosts(driver):
    """Hosts that were asked for something since the last call."""
    found = set()
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
            address = message["params"].get("request", message["params"])["url"]
            parts = urlsplit(address)
            if parts.scheme not in ("data", "blob", "file", "chrome", "about"):
                found.add(parts.hostname)
    return found


def _declared(folder):
    """Metadata with the entry point of the project, for a checkout that is installed without it."""
    section = re.search(
        r'\[project\.entry-points\."tensorboard_plugins"\]\n(.+)', (ROOT / "pyproject.toml").read_text()
    )
    info = Path(folder) / "le_callback_tab-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: le-callback-tab\nVersion: 0\n")
    (info / "entry_points.txt").write_text(f"[tensorboard_plugins]\n{section.group(1).replace(chr(34), '')}\n")
    return str(folder)


@contextmanager
def tensorboard(logdir):
    """The address of a TensorBoard that serves a log directory."""
    with tempfile.TemporaryDirectory() as folder:
        known = any(entry.name == "le_callback" for entry in entry_points(group="tensorboard_plugins"))
        path = [str(ROOT), *([] if known else [_declared(folder)])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}
        log = Path(folder) / "log"
        with log.open("w") as output:
            command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--port", "0"]
            process = subprocess.Popen(
                [*command, "--reload_interval", "5"], stderr=output, stdout=output, env=environment
            )
            try:
                yield until(lambda: _address(log, process), 60)
            finally:
                process.terminate()
                process.wait(20)


def _address(log, process):
    text = log.read_text()
    assert process.poll() is None, text
    found = re.search(r"http://\S+?:\d+", text)
    return found and found.group().replace(f"//{os.uname().nodename}:", "//localhost:")


def open_tab(driver, address, dark=False):
    """Open the tab and wait until it is drawn; seconds that took."""
    began = time.monotonic()
    driver.get("about:blank")
    driver.get(f"{address}/{'?darkMode=true' if dark else ''}#le_callback")
    enter(driver)
    return began


def enter(driver):
    """Into the frame of the tab."""

    def frame():
        driver.switch_to.default_content()
        frames = driver.execute_script("return [...document.querySelectorAll('iframe')]")
        if not frames:
            return False
        driver.switch_to.frame(frames[0])
        return driver.execute_script("return document.querySelector('.le-page') !== null")

    until(frame, 60)
