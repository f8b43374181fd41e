"""A stack has one root, whoever of its services asks first."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from deploy.central.native.cache import Cache
from deploy.central.native.certificates import identity_path, root_path
from deploy.central.native.service import Stack
from shared.pki import load_certificate, load_root

ASKING = 8


def test_services_that_start_beside_each_other_get_one_root(tmp_path: Path) -> None:
    stack, together = Stack(tmp_path, "staging", Cache(tmp_path)), Barrier(ASKING)

    def ask(number: int) -> Path:
        together.wait(30)
        return identity_path(stack, f"server{number}")

    with ThreadPoolExecutor(ASKING) as pool:
        paths = list(pool.map(ask, range(ASKING)))
    root = load_root(root_path(stack).parent).certificate
    for path in paths:
        load_certificate(path.read_bytes()).verify_directly_issued_by(root)
