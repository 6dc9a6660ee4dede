"""The cluster's certificate authority: who may say what they are, by openssl.

Kubernetes reads a client's user from the certificate's CN and its groups from O.
"""

import pathlib
import subprocess
from collections.abc import Sequence

DAYS = "365"


class Authority:
    """Certificates are made when first asked for, all in `folder`; each has its key beside it (`.key`)."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate = folder / "ca.crt"
        if not self.certificate.exists():
            _openssl(self.certificate, "/CN=ebbgate-lab", "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def client(self, name: str, group: str = "") -> pathlib.Path:
        """A certificate by which its owner is the user `name`, in `group`."""
        subject = f"/O={group}/CN={name}" if group else f"/CN={name}"
        return self._signed(f"client-{name.replace(':', '-')}", subject, "extendedKeyUsage=clientAuth")

    def server(self, name: str, addresses: Sequence[str], names: Sequence[str] = ()) -> pathlib.Path:
        """A certificate for what listens on `addresses`, and is known by `names`."""
        alternatives = ",".join([*(f"IP:{each}" for each in addresses), *(f"DNS:{each}" for each in names)])
        extensions = ("extendedKeyUsage=serverAuth", f"subjectAltName={alternatives}")
        return self._signed(f"server-{name}", f"/CN={name}", *extensions)

    def _signed(self, file: str, subject: str, *extensions: str) -> pathlib.Path:
        path = self._folder / f"{file}.crt"
        if not path.exists():
            options = [word for each in extensions for word in ("-addext", each)]
            signer = ("-CA", str(self.certificate), "-CAkey", str(key_of(self.certificate)))
            _openssl(path, subject, *signer, "-addext", "basicConstraints=critical,CA:FALSE", *options)
        return path


def key_of(certificate: pathlib.Path) -> pathlib.Path:
    return certificate.with_suffix(".key")


def _openssl(path: pathlib.Path, subject: str, *options: str) -> None:
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(key_of(path)))
    command = ["openssl", "req", "-x509", *key, "-subj", subject, "-days", DAYS, *options, "-out", str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"openssl for {path.name}: {done.stderr.strip()}")
