"""How this machine's pip finds packages, as a home folder to show to a build.

An index of one's own, a proxy, a certificate authority of one's own: pip reads them from its environment and
from files in several places. A build has none of these, and must not keep any.
"""

import pathlib
import shutil
import subprocess
import sys

HOME = "/root"
"""Where steps of a build have their home. It is in Debian's base, so nothing is left where it was shown."""
NAMES = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout")
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


def write_home(folder: pathlib.Path) -> None:
    """`folder` becomes what a build may see as HOME."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    )
    found: dict[str, str] = {}
    for line in listed.stdout.splitlines():
        # SECTION.NAME='VALUE', those of the environment first: they win.
        key, _, value = line.partition("=")
        found.setdefault(key.rpartition(".")[2], value.strip("'"))
    (folder / ".config/pip").mkdir(parents=True)
    shutil.copy(found.get("cert", AUTHORITIES), folder / "authorities.pem")
    settings = {name: found[name] for name in NAMES if name in found} | {"cert": f"{HOME}/authorities.pem"}
    lines = ["[global]", *(f"{name} = {value}" for name, value in settings.items())]
    (folder / ".config/pip/pip.conf").write_text("\n".join(lines) + "\n")
