"""The paper's head: TabPFN, called directly so that it reads every feature column.

The scikit-learn interface of the package passes at most 500 columns to each member of the
ensemble, and reads the context on every call. Here each member reads all columns that vary over
the context, in its own order, and its cache of the context is kept.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from vzero_server.model.checkpoint import CheckpointError
from vzero_server.paper.tabpfn_context import TabPFNContext, concatenate, convert_cache
from vzero_server.paper.tabpfn_file import TabPFNFile

# Maximum cells (rows times columns times members) of a context that all members read in one pass.
_MAX_PASS_CELLS = 1 << 20


class TabPFNHead(nn.Module):
    """An ensemble of passes through one frozen TabPFN (section 4.3).

    Members differ in the order of the columns. Their logits are divided by the temperature and
    averaged, as by the paper's authors, or converted to probabilities before averaging, as by the
    package ``tabpfn`` by default.

    Shapes: B contexts, N rows, M queries, C columns, E members.

    Attributes:
        net: The network.
        columns: Feature columns of a prompt, C.
        most_rows: Maximum rows of a context that the network was trained for.
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
        """Set up the head.

        Args:
            file: Checkpoint of the network.
            columns: Feature columns of a prompt, C.
            members: Number of passes that are averaged, E.
            orders: Order of the columns of each member, ``[E, C]``; shuffled by default.
            average_logits: Whether to average before the softmax rather than after it.
            device: Torch device.
            compute: Number format of the passes.
            store: Number format of cached contexts.

        Raises:
            CheckpointError: There are more columns than the network was trained for.
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
        """Number of passes that are averaged, E."""
        return len(self._orders)

    @property
    def device(self) -> torch.device:
        """Torch device of the network."""
        return self._orders.device

    def forward(self, context: Tensor, successes: Tensor, queries: Tensor) -> Tensor:
        """Logits of both classes in one joint pass, through which gradients reach the features.

        For training and as a reference in tests: uses no cache, and keeps constant columns.

        Args:
            context: Features of the rows, ``[B, N, C]``.
            successes: 0 or 1 per row, ``[B, N]``; each context has both.
            queries: Features of the queries, ``[B, M, C]``.

        Returns:
            Logits ``[B, M, 2]``, whose softmax are the probabilities of failure and success.
        """
        features = torch.cat([context, queries], 1)[:, :, self._orders]
        rows = features.permute(1, 0, 2, 3).flatten(1, 2)
        targets = successes.to(rows.dtype).repeat_interleave(self.members, 0).T
        with self._precision():
            output = self.net(rows, targets, task_type="multiclass")
        return self._averaged(output, len(context))

    @torch.inference_mode()
    def encode(self, features: Tensor, successes: Tensor) -> TabPFNContext | None:
        """Read a context.

        Args:
            features: Features of its rows, ``[N, C]``, finite.
            successes: 0 or 1 per row, ``[N]``.

        Returns:
            The context for ``predict``; None if there is nothing to learn from: all rows are
            successes, all are failures, or all columns are constant.

        Raises:
            ValueError: There are more rows than the network was trained for, or the number of
                columns is wrong.
        """
        if features.shape[1:] != (self.columns,):
            raise ValueError(f"features must be [N, {self.columns}], not {list(features.shape)}")
        if len(features) > self.most_rows:
            raise ValueError(
                f"a context of {len(features)} rows; the head reads at most {self.most_rows}"
            )
        features = features.to(self.device, torch.float32)
        varies = (features != features[:1]).any(0)
        if bool((successes == successes[:1]).all()) or not varies.any():
            return None
        # Constant columns are removed from all orders, which keep equal lengths.
        columns = self._orders[varies[self._orders]].view(self.members, -1)
        targets = successes.to(self.device, torch.float32)[:, None]
        count, width = len(features), columns.shape[1]
        step = self.members if self.members * count * width <= _MAX_PASS_CELLS else 1
        caches = []
        for orders in torch.split(columns, step):
            rows = features[:, orders]
            with self._precision():
                _, cache = self.net(
                    rows,
                    targets.expand(-1, len(orders)),
                    task_type="multiclass",
                    return_kv_cache=True,
                )
            caches.append(convert_cache(cache, self._store))
        successes = targets.expand(-1, self.members).contiguous()
        return TabPFNContext(concatenate(caches, copy=True), successes, columns)

    @torch.inference_mode()
    def predict(self, contexts: Sequence[TabPFNContext], queries: Tensor) -> Tensor:
        """Probability of success of queries, ``[B, M]``.

        Args:
            contexts: Contexts of equal ``shape``.
            queries: Features of the queries of each context, ``[B, M, C]``. Queries are
                independent of each other, so short lists may be padded with zeros.

        Raises:
            ValueError: The contexts have different shapes, or the shape of the queries is wrong.
        """
        if len({context.shape for context in contexts}) != 1:
            raise ValueError("contexts of one batch must have one shape")
        if queries.shape[0] != len(contexts) or queries.shape[2:] != (self.columns,):
            raise ValueError(
                f"queries must be [{len(contexts)}, M, {self.columns}], not {list(queries.shape)}"
            )
        queries = queries.to(self.device, torch.float32)
        pairs = zip(queries, contexts, strict=True)
        rows = torch.cat([features[:, context.columns] for features, context in pairs], 1)
        with self._precision():
            output = self.net(
                rows,
                torch.cat([context.successes for context in contexts], 1),
                task_type="multiclass",
                kv_cache=concatenate([context.cache for context in contexts]),
                x_is_test_only=True,
            )
        probabilities: Tensor = self._averaged(output, len(contexts)).softmax(-1)[..., 1]
        return probabilities

    def _averaged(self, output: Tensor, contexts: int) -> Tensor:
        """Ensemble logits ``[B, M, 2]`` from outputs of the network, ``[M, B * E, classes]``."""
        logits = output[..., :2].float() / self._temperature
        logits = logits.view(len(output), contexts, self.members, 2).permute(1, 2, 0, 3)
        if self._average_logits:
            return logits.mean(1)
        return logits.softmax(-1).mean(1).log()

    def _precision(self) -> torch.autocast | nullcontext[None]:
        if self._compute is torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self._compute)
