"""How the tests that build and install run commands, and what they have in common."""

import json
import subprocess


def run(*command, status=0, **options):
    """What the command prints, errors included; its exit status must be `status`."""
    result = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            timeout=1500, **options)
    text = result.stdout.decode()
    if result.returncode != status:
        raise AssertionError(f"{' '.join(map(str, command))}\nexit status {result.returncode}\n{text[-4000:]}")
    return text


def write_backbone_weights(source, path):
    """A weight file without conv5 and the classifier, as a backbone wants it."""
    content = source.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    kept, parts, end = {}, [], 0
    for name, tensor in header.items():
        if name == "__metadata__" or name.startswith(("conv5.", "fc.")):
            continue
        part = data[slice(*tensor["data_offsets"])]
        kept[name] = {**tensor, "data_offsets": [end, end + len(part)]}
        parts.append(part)
        end += len(part)
    text = json.dumps(kept).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))
