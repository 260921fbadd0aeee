"""The paper's head: TabPFN, called directly, so that every feature column reaches it.

The package's own scikit-learn interface hands each member of its ensemble at most 500 columns,
and reads the context anew on every call. Here each member reads all columns that vary over the
context, in an order of its own, and what it made of the context is kept.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from vzero_server.model.checkpoint import CheckpointError
from vzero_server.paper.tabpfn_context import TabPFNContext, stacked, stored_as
from vzero_server.paper.tabpfn_file import TabPFNFile

# Cells (rows times columns) up to which the members read a context in one pass.
_TOGETHER = 1 << 20


class TabPFNHead(nn.Module):
    """An ensemble of passes through one frozen TabPFN (section 4.3).

    Members differ in the order of the columns. Their logits are divided by the temperature and
    averaged, as the paper's authors do, or turned into probabilities first, as the package
    ``tabpfn`` does unless told otherwise.

    Shapes: B contexts, N rows, M queries, C columns, E members.

    Attributes:
        net: The network.
        columns: Feature columns of a prompt, C.
        most_rows: Rows of a context the network was trained for.
    """

    def __init__(
        self,
        file: TabPFNFile,
        *,
        columns: int,
        members: int = 4,
        orders: Sequence[Sequence[int]] | None = None,
        average_logits: bool = True,
        device: str = "cpu",
        compute: torch.dtype = torch.float32,
        store: torch.dtype = torch.float32,
    ) -> None:
        """Take a network into service.

        Args:
            file: Its checkpoint.
            columns: Feature columns of a prompt, C.
            members: Passes that are averaged, E.
            orders: The order of columns of each member, ``[E, C]``; shuffled, by default.
            average_logits: Average before the softmax, not after it.
            device: Torch device.
            compute: Number format of the passes.
            store: Number format of what is kept of a context.

        Raises:
            CheckpointError: The network was not trained for so many columns.
        """
        super().__init__()
        if columns > file.most_columns:
            raise CheckpointError(
                f"{file.path}: the head reads at most {file.most_columns} feature columns, the "
                f"adapter makes {columns}"
            )
        if orders is None:
            generator = np.random.default_rng(0)
            orders = [generator.permutation(columns).tolist() for _ in range(members)]
        self.columns = columns
        self.most_rows = file.most_rows
        self.net = file.net.to(device)
        self._orders: Tensor
        self.register_buffer("_orders", torch.tensor(orders, device=device), persistent=False)
        self._temperature = file.temperature
        self._average_logits = average_logits
        self._compute = compute
        self._store = store

    @property
    def members(self) -> int:
        """Passes that are averaged, E."""
        return len(self._orders)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._orders.device

    def forward(self, context: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
        """Logits of both classes in one joint pass, through which gradients reach the features.

        Nothing is kept, and constant columns stay: for training, and to check the rest by.

        Args:
            context: Features of the rows, ``[B, N, C]``.
            labels: 0 or 1, ``[B, N]``; each context has both.
            queries: Features of the queries, ``[B, M, C]``.

        Returns:
            ``[B, M, 2]``, such that their softmax is the answer.
        """
        features = torch.cat([context, queries], 1)[:, :, self._orders]
        rows = features.permute(1, 0, 2, 3).flatten(1, 2)
        known = labels.to(rows.dtype).repeat_interleave(self.members, 0).T
        with self._precision():
            out = self.net(rows, known, task_type="multiclass")
        return self._averaged(out, len(context))

    @torch.inference_mode()
    def encode(self, features: Tensor, labels: Tensor) -> TabPFNContext | None:
        """Read a context.

        Args:
            features: Of its rows, ``[N, C]``, finite.
            labels: 0 or 1, ``[N]``.

        Returns:
            What ``predict`` needs of it; None where there is nothing to learn from: rows of
            one class only, or columns that are all constant.

        Raises:
            ValueError: More rows than the network was trained for, or other columns.
        """
        if features.shape[1:] != (self.columns,):
            raise ValueError(f"features must be [N, {self.columns}], not {list(features.shape)}")
        if len(features) > self.most_rows:
            raise ValueError(
                f"a context of {len(features)} rows; the head reads at most {self.most_rows}"
            )
        features = features.to(self.device, torch.float32)
        varies = (features != features[:1]).any(0)
        if bool((labels == labels[:1]).all()) or not varies.any():
            return None
        # All orders lose the same columns, so that they stay equally long.
        columns = self._orders[varies[self._orders]].view(self.members, -1)
        known = labels.to(self.device, torch.float32)[:, None]
        count, wide = len(features), columns.shape[1]
        step = self.members if self.members * count * wide <= _TOGETHER else 1
        caches = []
        for chosen in torch.split(columns, step):
            rows = features[:, chosen]
            with self._precision():
                _, cache = self.net(
                    rows,
                    known.expand(-1, len(chosen)),
                    task_type="multiclass",
                    return_kv_cache=True,
                )
            caches.append(stored_as(cache, self._store))
        labels = known.expand(-1, self.members).contiguous()
        return TabPFNContext(stacked(caches, keep=True), labels, columns)

    @torch.inference_mode()
    def predict(self, contexts: Sequence[TabPFNContext], queries: Tensor) -> Tensor:
        """Probability of the class 1 of queries, ``[B, M]``.

        Args:
            contexts: The contexts, of one ``shape``.
            queries: Features of the queries of each, ``[B, M, C]``. Queries do not see each
                other: those of a short list may be filled up with zeros.

        Raises:
            ValueError: Contexts of several shapes, or queries of another.
        """
        if len({context.shape for context in contexts}) != 1:
            raise ValueError("contexts that are answered from together must have one shape")
        if queries.shape[0] != len(contexts) or queries.shape[2:] != (self.columns,):
            raise ValueError(
                f"queries must be [{len(contexts)}, M, {self.columns}], not {list(queries.shape)}"
            )
        queries = queries.to(self.device, torch.float32)
        pairs = zip(queries, contexts, strict=True)
        rows = torch.cat([own[:, context.columns] for own, context in pairs], 1)
        with self._precision():
            out = self.net(
                rows,
                torch.cat([context.labels for context in contexts], 1),
                task_type="multiclass",
                kv_cache=stacked([context.cache for context in contexts]),
                x_is_test_only=True,
            )
        probabilities: Tensor = self._averaged(out, len(contexts)).softmax(-1)[..., 1]
        return probabilities

    def _averaged(self, out: Tensor, contexts: int) -> Tensor:
        """Logits ``[B, M, 2]`` of what the network says, ``[M, B * E, classes]``."""
        logits = out[..., :2].float() / self._temperature
        logits = logits.view(len(out), contexts, self.members, 2).permute(1, 2, 0, 3)
        if self._average_logits:
            return logits.mean(1)
        return logits.softmax(-1).mean(1).log()

    def _precision(self) -> torch.autocast | nullcontext[None]:
        if self._compute is torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self._compute)
