"""Names that users of NumPy, JAX and PyTorch look for in ``kn`` and that are not there: what to use instead.

``NAMES`` says it for each name; the page ``docs/names.md`` shows it, and ``kn.name`` raises an AttributeError with it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping


def _each(names: str, advice: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), advice)


def _pairs(text: str, what: str) -> dict[str, str]:
    """Names with ours: ``mm=matmul``, or with an expression that does the same."""
    found = {}
    for pair in text.split(";"):
        name, _, ours = " ".join(pair.split()).partition("=")
        shown = f"kn.{ours}" if re.fullmatch(r"\w+", ours) else ours
        found[name] = f"{what} {shown}"
    return found


_COMPLEX = "there are no complex numbers"
_FOURIER = "there are no Fourier transforms, for there are no complex numbers; numpy.fft takes numpy.asarray(x)"
_TEXT = "there are no strings, objects and dates among the dtypes"
_FILES = "files, text and buffers are read and written by NumPy: kn.array(numpy.load(path)), numpy.save(path, x)"
_PRINT = "how arrays are printed is set by numpy.set_printoptions; repr(x) and str(x) print"
_DTYPES = "dtypes are NumPy's: kn.float32, 'float32' or numpy.float32; numpy.issubdtype(x.dtype, numpy.floating) asks"
_MEMORY = "an array is always dense and in C order, and is a value: x.copy(), x.reshape(shape), x[key]"
_ITERATORS = "iterate over the array, or over numpy.ndindex(x.shape); kn.scan and kn.vmap do it in compiled code"
_ERRORS = "floating-point errors give NaN and infinities; kn.debug(check_nan=True) looks for them"
_SPECIAL = "not there; a function over NumPy's arrays, such as scipy.special's, is wrapped with kn.primitive(host=True)"
_DRAWS = "not there; make it from kn.random's distributions, or wrap numpy.random with kn.primitive(host=True)"
_LAYERS = "layers over images and sequences are not there yet"
_SPARSE = "there are no sparse or quantized arrays"
_KEYS = "random numbers come from one stream, begun with kn.seed(n); functions take no key"
_DEVICES = "programs run on one device; kn.to_device and device= say on which"

NAMES: Mapping[str, str] = {
    # --- NumPy
    **_each("""
        angle complex64 complex128 cdouble csingle clongdouble complex256 complex_ complexfloating iscomplex
        iscomplexobj isreal isrealobj real_if_close sort_complex complex polar view_as_real view_as_complex
    """, _COMPLEX),
    **_each("fft ifft rfft irfft fft2 ifft2 fftn ifftn fftfreq fftshift hfft stft istft", _FOURIER),
    **_each("""
        bytes_ str_ object_ void character datetime64 timedelta64 busday_count busday_offset busdaycalendar is_busday
        isnat datetime_as_string datetime_data recarray record rec char strings
    """, _TEXT),
    **_each("""
        load save savez savez_compressed savetxt loadtxt genfromtxt fromfile fromregex frombuffer fromstring fromiter
        memmap DataSource
    """, _FILES),
    **_each("""
        array2string array_repr array_str set_printoptions get_printoptions printoptions base_repr binary_repr
        format_float_positional format_float_scientific
    """, _PRINT),
    **_each("""
        bool double single half longdouble float float_ float128 int int_ intc intp uint uintp byte ubyte short ushort
        long ulong longlong ulonglong uintc bfloat16 ScalarType True_ False_ flexible typecodes dtype generic number
        integer signedinteger unsignedinteger inexact floating issubdtype min_scalar_type mintypecode common_type
        typename sctypeDict
    """, _DTYPES),
    **_each("""
        asanyarray ascontiguousarray asfortranarray asarray_chkfinite require matrix asmatrix bmat ndarray isfortran
        may_share_memory shares_memory as_strided contiguous
    """, _MEMORY),
    **_each("nditer ndenumerate ndindex flatiter nested_iters iterable broadcast", _ITERATORS),
    **_each("errstate seterr geterr seterrcall geterrcall setbufsize getbufsize", _ERRORS),
    **_pairs("""
        promote_types=result_type; einsum_path=einsum; row_stack=vstack; trapz=trapezoid; in1d=isin; product=prod;
        cumproduct=cumprod; sometrue=any; alltrue=all; round_=round; msort=sort; ndim=x.ndim; shape=x.shape;
        size=x.size; copy=x.copy(); frompyfunc=kn.vectorize, or kn.primitive(host=True); ufunc=vectorize;
        poly1d=kn.polyval and its kin; isscalar=numpy.isscalar, or x.ndim == 0 of kn arrays
    """, "use"),
    # --- JAX
    **_pairs("""
        gammaln=lgamma; psi=digamma; erf_inv=erfinv; igamma=gammainc; igammac=gammaincc; bessel_i0e=i0e;
        bessel_i1e=i1e; log_expit=log_sigmoid; iota=arange; top_k=topk; cumlogsumexp=logcumsumexp; rev=flip;
        is_finite=isfinite; population_count=bitwise_count; bitcast_convert_type=bitcast;
        convert_element_type=x.astype(dtype); select_n=kn.where or kn.choose; integer_pow=x**n; div=divide; rem=fmod;
        neg=negative; mul=multiply; sub=subtract; eq=equal; ne=not_equal; lt=less; le=less_equal; gt=greater;
        ge=greater_equal; shift_left=left_shift; shift_right_arithmetic=right_shift; dynamic_slice=x[i : i + n];
        dynamic_update_slice=x[i : i + n] = v; dot_general=kn.einsum or kn.tensordot; batch_matmul=matmul;
        scatter_add=kn.bincount(x, weights), or index and differentiate; jit=compile; value_and_grad=gradloss;
        jacfwd=jacobian; jacrev=jacobian; map=kn.vmap or kn.scan;
        associative_scan=kn.cumsum and its kin, or kn.linear_recurrence; sort_key_val=x[kn.argsort(keys)];
        custom_vjp=primitive; custom_jvp=primitive; pure_callback=kn.primitive(host=True); remat=checkpoint;
        block_until_ready=synchronize; device_put=to_device; factorial=kn.gamma(n + 1);
        poch=kn.exp(kn.lgamma(z + m) - kn.lgamma(z)); gammasgn=kn.sign(kn.gamma(x)); boxcox=(x**lmbda - 1) / lmbda;
        boxcox1p=((1 + x)**lmbda - 1) / lmbda; dot_product_attention=kn.softmax(q @ k.mT / d**0.5, axis=-1) @ v
    """, "use"),
    **_each("""
        airy bernoulli bessel_jn j0 j1 jn jv y0 y1 yn yv k0 k0e k1 k1e kv iv ive fresnel sici shichi hyp1f1 hyp2f1
        owens_t wofz sph_harm_y ellipk ellipe lambertw erfi comb struve betaincinv gammaincinv
    """, _SPECIAL),
    **_each("PRNGKey key split_key fold_in", _KEYS),
    **_each("""
        psum pmean pmax pmin pmap shard_map all_gather all_to_all ppermute axis_index axis_size
        with_sharding_constraint
    """, _DEVICES),
    # --- PyTorch
    **_pairs("""
        mm=matmul; bmm=matmul; mv=matvec; ger=outer; addmm=a + b @ c; baddbmm=a + b @ c; addcmul=a + v * b * c;
        addcdiv=a + v * b / c; lerp=a + w * (b - a); frac=x - kn.trunc(x); sgn=sign; rsub=b - a; clamp_min=maximum;
        clamp_max=minimum; numel=x.size; permute=permute_dims; movedim=moveaxis; swapdims=swapaxes;
        unsqueeze=expand_dims; flatten=x.reshape(-1); unflatten=reshape; unbind=unstack; chunk=array_split;
        tensor_split=array_split; narrow=x[i : i + n]; repeat_interleave=repeat; take_along_dim=take_along_axis;
        index_select=take; gather=take_along_axis; masked_select=x[mask]; masked_fill=where;
        index_add=kn.put_along_axis, or kn.bincount with weights; kthvalue=kn.partition or kn.sort;
        bucketize=kn.searchsorted or kn.digitize; histc=histogram; std_mean=kn.std and kn.mean;
        var_mean=kn.var and kn.mean; aminmax=kn.min and kn.max; dist=kn.norm(a - b);
        cdist=kn.norm(a[:, None] - b[None], axis=-1); cosine_similarity=kn.vecdot of rows, divided by their norms;
        chain_matmul=multi_dot; inverse=inv; pinverse=pinv;
        matrix_exp=kn.eigh, or scipy.linalg.expm by kn.primitive(host=True); mvlgamma=multigammaln;
        cartesian_prod=meshgrid; combinations=kn.triu_indices; randperm=kn.argsort(kn.rand(n));
        rand_like=kn.rand(*x.shape); randn_like=kn.randn(*x.shape); manual_seed=seed; tensor=array; as_tensor=asarray;
        from_numpy=asarray; detach=stop_gradient; no_grad=stop_gradient; hann_window=hanning; hamming_window=hamming;
        blackman_window=blackman; bartlett_window=bartlett; kaiser_window=kaiser;
        cumulative_trapezoid=kn.cumsum of the trapezoids; block_diag=kn.block, or kn.kron with kn.eye;
        diag_embed=x[..., None] * kn.eye(n); range=arange; set_default_dtype=set_default;
        get_default_dtype=kn.atype(); nuclear_norm=kn.norm(x, 'nuc'); layer_norm=layernorm; rms_norm=rmsnorm;
        logsigmoid=log_sigmoid; hardtanh=hard_tanh; hardsigmoid=hard_sigmoid; hardswish=hard_silu; softsign=soft_sign;
        softmin=kn.softmax(-x); tanhshrink=x - kn.tanh(x); threshold=where; hardshrink=where; softshrink=where;
        prelu=leaky_relu; cross_entropy=nll; nll_loss=nll; binary_cross_entropy=bce;
        binary_cross_entropy_with_logits=logistic; mse_loss=kn.mean((a - b)**2); l1_loss=kn.mean(kn.abs(a - b));
        huber_loss=kn.where(kn.abs(d) < 1, d * d / 2, kn.abs(d) - 0.5); linear=x @ w.T + b;
        normalize=x / kn.norm(x, axis=-1, keepdims=True); gumbel_softmax=kn.softmax of scores + noise;
        scaled_dot_product_attention=kn.softmax(q @ k.mT / d**0.5, axis=-1) @ v; triangular_solve=solve;
        solve_triangular=solve; cholesky_solve=solve; geqrf=qr; lu=kn.qr or kn.solve; sum_to_size=unbroadcast;
        is_tensor=isinstance(x, kn.Array)
    """, "use"),
    **_each("""
        conv1d conv2d conv3d conv conv_general_dilated conv_transpose1d conv_transpose2d max_pool1d max_pool2d
        max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool2d batch_norm group_norm instance_norm lstm gru
        rnn_relu rnn_tanh grid_sample interpolate upsample pixel_shuffle fold unfold embedding_bag ctc_loss
    """, _LAYERS),
    **_each("sparse_coo_tensor sparse_csr_tensor quantize_per_tensor to_sparse spmm", _SPARSE),
}  # fmt: skip

DISTRIBUTIONS: Mapping[str, str] = {
    **_each("""
        hypergeometric logseries multivariate_hypergeometric negative_binomial noncentral_chisquare noncentral_f
        vonmises wald zipf ball orthogonal generalized_normal maxwell double_sided_maxwell multinomial f triangular
        truncated_normal weibull_min random_gamma_p
    """, _DRAWS),
    **_each("""
        default_rng Generator RandomState SeedSequence PCG64 Philox MT19937 get_state set_state bit_generator PRNGKey
        key split fold_in key_data wrap_key_data key_dtype key_impl clone
    """, _KEYS),
    "integers": "use kn.randint", "random": "use kn.rand", "standard_normal": "use kn.randn",
    "bytes": "use kn.randint", "bits": "use kn.randint",
    "t": "use kn.random.standard_t", "standard_gamma": "use kn.random.gamma", "standard_cauchy": "use kn.random.cauchy",
    "standard_exponential": "use kn.random.exponential",
    "sample": "use kn.rand", "shuffle": "arrays are values: x = kn.random.permutation(x)",
    "permuted": "use kn.random.permutation along an axis",
}  # fmt: skip
"""The same for ``kn.random``."""


def message(module: str, name: str, known: Iterable[str], table: Mapping[str, str]) -> str:
    """What an AttributeError says of a name that a module has not."""
    advice = table.get(name)
    if advice is None:
        near = difflib.get_close_matches(name, [k for k in known if not k.startswith("_")], 1, 0.7)
        advice = f"the nearest is {module}.{near[0]}" if near else "docs/names.md says what else there is not"
    return f"there is no {module}.{name}: {advice}"
