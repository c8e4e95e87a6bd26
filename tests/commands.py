"""How the tests that build and install run commands."""

import subprocess


def run(*command, status=0, **options):
    """What the command prints, errors included; its exit status must be `status`."""
    result = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            timeout=1500, **options)
    text = result.stdout.decode()
    if result.returncode != status:
        raise AssertionError(f"{' '.join(map(str, command))}\nexit status {result.returncode}\n{text[-4000:]}")
    return text
