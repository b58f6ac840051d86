"""``rad-jax push``: a model to the Hugging Face Hub, in one commit or not at all."""

import contextlib
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rad_jax.checkpoints.hub import CARD, LOG_IN, hub_errors
from rad_jax.checkpoints.model_folder import FOLDERS, KIND, RECORD
from rad_jax.checkpoints.model_record import read_record
from rad_jax.errors import UserError
from rad_jax.files.atomic import atomic_folder
from rad_jax.files.bucket import AnyPath
from rad_jax.files.hub_address import HubAddress, is_repo, parse
from rad_jax.sharing.stage import COPY, read_source, write_stage

MAIN = "main"
OURS = (RECORD, CARD, COPY)
"""What a push replaces, beside all of `FOLDERS`."""

BY_HUB = (".gitattributes", CARD, "LICENSE", "LICENSE.md", "LICENSE.txt")
"""What a repository may hold that has no model yet."""


def push(
    model: str | AnyPath,
    repo: str,
    *,
    license: str,
    evaluations: Sequence[Path] = (),
    private: bool = False,
    revision: str | None = None,
    output: Path | None = None,
) -> None:
    """Uploads a model, a copy of it in safetensors, and its card.

    Whatever can be refused is, before anything is uploaded. What else a repository
    holds stays; it is refused if it holds something else than a model of rad_jax.

    Args:
      model: a model folder, or the workdir of a training run.
      repo: owner and name.
      license: of the weights: its identifier on the Hub, such as apache-2.0.
      evaluations: folders or files of `evaluate`, of this model.
      private: make the repository for nobody else, where there is none yet.
      revision: a branch, which is made if there is none; by default the main one.
      output: a new folder to write what would be uploaded to; nothing is.

    Raises:
      UserError: anything does not fit, or the Hub cannot be reached or refuses it.
    """
    if not is_repo(repo):
        raise UserError(f"{repo}: is no name of a repository; give owner/name")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", license):
        raise UserError(
            f"license {license!r} is no identifier of a licence; give one of the Hub's,"
            " such as apache-2.0 or cc-by-nc-4.0, or other"
        )
    address = parse(str(HubAddress(repo, revision)))  # refuses names of no branch
    if address.pinned:
        raise UserError(f"{address}: is a commit, which stays as it is; give a branch")
    if output is not None:
        if output.exists():
            raise UserError(f"{output}: exists; choose another output")
        source = read_source(model, evaluations)
        with atomic_folder(output) as stage:
            write_stage(source, stage, repo, license)
        print(f"rad-jax: what would be uploaded to {address} is {output}")
        return
    remote = _Remote(address)  # before minutes of reading, not after
    remote.check(private)
    source = read_source(model, evaluations)
    with tempfile.TemporaryDirectory(prefix="rad_jax-") as scratch:
        folder = Path(scratch) / "model"
        with atomic_folder(folder) as stage:
            write_stage(source, stage, repo, license)
        remote.upload(folder, private)


class _Remote:
    """A repository that a model is pushed to."""

    def __init__(self, address: HubAddress):
        """Refuses to begin without the library, and without a token."""
        self.address = address
        with hub_errors(address):
            from huggingface_hub import HfApi, get_token

            if get_token() is None:
                raise UserError(f"{address}: nobody is logged in; {LOG_IN}")
            self.api = HfApi()
        self.exists = False
        self.branch_exists = True
        self.files: Sequence[str] = ()

    def check(self, private: bool) -> None:
        """Looks at what is there; refuses what is no place for a model."""
        from huggingface_hub.errors import (
            GatedRepoError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        repo, revision = self.address.repo, self.address.revision
        with hub_errors(self.address):
            token = self.api.whoami().get("auth", {}).get("accessToken") or {}
            if token.get("role") == "read":
                raise UserError(
                    f"{self.address}: your token may only read; {LOG_IN} with one that "
                    "may write"
                )
            try:
                info = self.api.repo_info(repo)
            except GatedRepoError:
                raise
            except RepositoryNotFoundError:
                return
            self.exists = True
            if private and not info.private:
                raise UserError(
                    f"{self.address}: is there, and public; --private makes no "
                    "repository private that is there"
                )
            with contextlib.suppress(RevisionNotFoundError):
                self.files = self.api.list_repo_files(repo, revision=revision)
                self._check_files()
                return
            self.branch_exists = False
            self.files = self.api.list_repo_files(repo)  # which it begins with
            self._check_files()

    def _check_files(self) -> None:
        """Refuses a repository of something else."""
        others = [name for name in self.files if name not in BY_HUB]
        if not others:
            return
        if RECORD not in others:
            raise UserError(
                f"{self.address}: holds something else than a model of rad_jax "
                f"({others[0][:80]!a}); give another --repo"
            )
        from huggingface_hub import hf_hub_download

        revision = self.address.revision if self.branch_exists else None
        path = hf_hub_download(self.address.repo, RECORD, revision=revision)
        try:
            if "rad_jax" not in read_record(Path(path), KIND):
                raise UserError("of another program")
        except UserError as error:
            raise UserError(
                f"{self.address}: holds a {RECORD} that is none of rad_jax; give "
                "another --repo"
            ) from error

    def upload(self, stage: Path, private: bool) -> None:
        """Uploads all files of a folder in one commit."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        repo, revision = self.address.repo, self.address.revision
        paths = sorted(path for path in stage.rglob("*") if path.is_file())
        named = {path.relative_to(stage).as_posix(): path for path in paths}
        # Parameters of the model before; they stay in the repository's history.
        stale = [
            name
            for name in self.files
            if name.partition("/")[0] in FOLDERS and "/" in name and name not in named
        ]
        operations = [
            *(CommitOperationAdd(name, str(path)) for name, path in named.items()),
            *(CommitOperationDelete(name, is_folder=False) for name in stale),
        ]
        with hub_errors(self.address):
            if not self.exists:
                self.api.create_repo(repo, private=private)
            if not self.branch_exists or (not self.exists and revision is not None):
                self.api.create_branch(repo, branch=str(revision), exist_ok=True)
            commit = self.api.create_commit(
                repo,
                operations,
                commit_message="Upload a model by rad-jax push",
                revision=revision,
            )
        size = sum(path.stat().st_size for path in paths)
        if CARD in self.files:
            print(f"the card ({CARD}) was replaced; the one before is in its history")
        print(
            f"rad-jax: {len(paths)} files, {size / 1e6:.1f} MB: "
            f"{self.address._replace(revision=commit.oid)}"
        )
