"""The toolkit's formulas, derived by SymPy.

Every function starts from definitions (the code's own alpha and sigma, Gaussian densities, the
geometry of the tokens) and returns SymPy objects; nothing that SymPy can derive is typed in.
`tokenkl derive` prints them all as docs/theory/derivations.md. Needs the extra `symbolic`; not
imported by `import tokenkl`.
"""

from tokenkl._extras import MissingExtra

try:
    import sympy as _sympy  # noqa: F401
except ImportError as error:
    raise MissingExtra("tokenkl.symbolic", "sympy", "symbolic") from error

from tokenkl.symbolic.bridge import (
    doob_drift,
    doob_residual,
    forward_residual,
    gaussian_kl,
    log_ratio_cumulants,
    path_kl,
    path_kl_rate,
)
from tokenkl.symbolic.expansions import (
    accuracy_expansion,
    edge_term,
    edges_term,
    grid_accuracy,
    line_accuracy,
    mmse_expansion,
    mmse_expansion_vector,
    mutual_information_expansion,
)
from tokenkl.symbolic.posterior import (
    ddpm_form,
    ddpm_posterior,
    posterior_limit,
    transition,
)
from tokenkl.symbolic.schedules import (
    SymbolicSchedule,
    coefficients,
    derive_schedule,
    in_coefficients,
    snr_identity,
)

__all__ = [
    "SymbolicSchedule",
    "accuracy_expansion",
    "coefficients",
    "ddpm_form",
    "ddpm_posterior",
    "derive_schedule",
    "doob_drift",
    "doob_residual",
    "edge_term",
    "edges_term",
    "forward_residual",
    "gaussian_kl",
    "grid_accuracy",
    "in_coefficients",
    "line_accuracy",
    "log_ratio_cumulants",
    "mmse_expansion",
    "mmse_expansion_vector",
    "mutual_information_expansion",
    "path_kl",
    "path_kl_rate",
    "posterior_limit",
    "snr_identity",
    "transition",
]
