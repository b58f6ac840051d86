"""``rad-jax --print-completion``: scripts that shells take."""

import subprocess
import sys

import pytest

from rad_jax.cli.main import VERBS

COMPLETE = """
COMP_WORDS=(rad-jax {words}) COMP_CWORD={last}
{script}
_shtab_rad_jax
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def completed(script, folder, *words):
    text = COMPLETE.format(words=" ".join(words), last=len(words), script=script)
    done = subprocess.run(
        ["bash", "-c", text], cwd=folder, capture_output=True, text=True, check=False
    )
    assert not done.stderr
    return done.stdout.split()


def test_bash_completes_verbs_flags_choices_and_files(rad, tmp_path):
    code, script, err = rad("--print-completion", "bash")
    assert (code, err) == (0, [])
    (tmp_path / "photo.png").touch()
    assert completed(script, tmp_path, "inp") == ["inpaint"]
    assert set(completed(script, tmp_path, "''")) >= VERBS.keys()
    assert completed(script, tmp_path, "inpaint", "--invert") == ["--invert_mask"]
    assert "quadratic" in completed(script, tmp_path, "inpaint", "--grid", "''")
    assert completed(script, tmp_path, "inpaint", "--image", "ph") == ["photo.png"]
    assert completed(script, tmp_path, "train", "--config", "ph") == ["photo.png"]
    assert completed(script, tmp_path, "push", "--model", "ph") == ["photo.png"]


@pytest.mark.parametrize("shell, start", [("zsh", "#compdef rad-jax"), ("tcsh", "#")])
def test_other_shells(shell, start, rad):
    code, script, err = rad("--print-completion", shell)
    assert (code, err) == (0, []) and script.startswith(start)
    assert "inpaint" in script and "invert_mask" in script


def test_an_unknown_shell_or_no_shtab_is_one_line(rad, monkeypatch):
    code, _, [line] = rad("--print-completion", "fish")
    assert code == 2 and "invalid choice: 'fish'" in line
    monkeypatch.setitem(sys.modules, "shtab", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, out, [line] = rad("--print-completion", "bash")
    assert (code, out) == (2, "")
    assert "completion needs shtab: pip install 'rad-jax[completion]'" in line
