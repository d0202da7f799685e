"""Conda specifications read as PyPI requirements. Pure: nothing of the project is imported.

Atelier builds environments from PyPI's wheels. Most packages have the same name in both worlds; those that differ
are mapped here, those that only carry libraries which wheels bring along are left out with a note, and those that
PyPI cannot give are named.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

# conda's name -> PyPI's name.
PYPI_NAMES = {
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "py-xgboost": "xgboost",
    "py-xgboost-cpu": "xgboost",
    "py-xgboost-gpu": "xgboost",
    "_py-xgboost-mutex": "",
    "tensorflow-gpu": "tensorflow",
    "tensorflow-base": "tensorflow",
    "tensorflow-mkl": "tensorflow",
    "tensorflow-eigen": "tensorflow",
    "keras-gpu": "keras",
    "keras-base": "keras",
    "opencv": "opencv-python-headless",
    "py-opencv": "opencv-python-headless",
    "libopencv": "",
    "matplotlib-base": "matplotlib",
    "dask-core": "dask",
    "pytables": "tables",
    "msgpack-python": "msgpack",
    "python-graphviz": "graphviz",
    "ruamel_yaml": "ruamel.yaml",
    "faiss": "faiss-cpu",
    "pyqt": "PyQt5",
    "brotlipy": "brotli",
    "brotli-python": "brotli",
    "psycopg2": "psycopg2-binary",
    "jupyter_core": "jupyter-core",
    "seaborn-base": "seaborn",
    "pyarrow-core": "pyarrow",
    "arrow-cpp": "pyarrow",
    "huggingface_hub": "huggingface-hub",
    "lightning-base": "lightning",
    "mlflow-skinny": "mlflow-skinny",
    "snowflake-connector-python": "snowflake-connector-python",
    "python-flatbuffers": "flatbuffers",
    "python-xxhash": "xxhash",
    "typing_extensions": "typing-extensions",
    "importlib_metadata": "importlib-metadata",
    "prompt_toolkit": "prompt-toolkit",
}

# Compilers' and system libraries that wheels carry themselves, and conda's own switches.
LEFT_OUT = frozenset(
    """_libgcc_mutex _openmp_mutex blas bzip2 c-ares ca-certificates certifi-win32 cpuonly cudatoolkit cudnn
    cuda cuda-toolkit cuda-runtime cuda-version expat fontconfig freetype glib icu intel-openmp jpeg krb5 lcms2
    ld_impl_linux-64 lerc libblas libcblas libcurl libdeflate libedit libev libffi libgcc libgcc-ng libgfortran
    libgfortran-ng libgfortran5 libgomp liblapack libnghttp2 libnsl libopenblas libpng libprotobuf libsodium
    libsqlite libssh2 libstdcxx libstdcxx-ng libtiff libuuid libuv libwebp libwebp-base libxcb libxcrypt libxml2 libxslt
    libzlib llvm-openmp lz4-c mkl mkl-service mkl_fft mkl_random ncurses nomkl openblas openjpeg openssl pip
    pixman pytorch-cuda pytorch-mutex python_abi readline snappy sqlite tbb tk tzcode vc vs2015_runtime xz yaml
    zeromq zlib zstd""".split()  # noqa: SIM905 - read as words - as a text it stays readable
)

# What PyPI cannot give (or gives something else under that name).
NOT_ON_PYPI = frozenset(
    """bash binutils bison boost-cpp c-compiler compilers conda conda-build conda-env curl cxx-compiler ffmpeg
    fortran-compiler gcc gcc_linux-64 gdb gfortran gfortran_linux-64 git git-lfs go graphviz gxx gxx_linux-64 hdf5
    imagemagick java-jdk libgdal make mamba maven mpi mpich nodejs openjdk openmpi openslide perl postgresql r r-base
    redis-server rust samtools scala sbt texlive-core tesseract unzip vim wget yarn""".split()  # noqa: SIM905 - read as words
)

_NAME = re.compile(r"^(?:[\w./:-]+::)?([A-Za-z0-9_][A-Za-z0-9_.-]*)(\[.*\])?\s*(.*)$")
_BRACKET_VERSION = re.compile(r"version\s*=\s*['\"]?([^'\"\]]+)")
_CLAUSE = re.compile(r"^(==|>=|<=|!=|~=|>|<|=)?\s*([0-9A-Za-z_.*+!-]+)$")


class Unreadable(ValueError):
    """A specification that is no conda package specification; the message says what is wrong with it."""


@dataclass
class Translation:
    """What conda specifications mean: the Python, pip requirements, what is left out and what cannot be had."""

    python: str | None = None
    packages: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unavailable: list[str] = field(default_factory=list)


def split_spec(spec: str) -> tuple[str, str]:
    """(name, PEP 440 specifier) of one conda package specification. Raises Unreadable.

    ``numpy=1.2`` is ``==1.2.*``, ``numpy==1.2`` and ``numpy=1.2=build`` are ``==1.2``, ``numpy 1.2.*`` is ``==1.2.*``.
    """
    text = spec.split("#", 1)[0].strip()
    match = _NAME.match(text)
    if not match:
        raise Unreadable(f"{spec!r} is not a conda package specification.")
    name, bracket, rest = match.group(1).lower(), match.group(2) or "", match.group(3).strip()
    if bracket:
        version = _BRACKET_VERSION.search(bracket)
        rest = version.group(1).strip() if version else rest
    return name, _specifier(rest, spec)


def _specifier(rest: str, spec: str) -> str:
    if not rest or rest == "*":
        return ""
    if "|" in rest:
        raise Unreadable(f"{spec!r}: alternatives with | cannot be expressed for pip. Choose one range.")
    words = rest.split()
    if len(words) == 2 and words[0][0].isdigit() and words[1][0] not in "<>=!~":
        rest = words[0] + "="  # "1.19.2 py36_0": a version and a build string
    elif len(words) > 1:
        rest = "".join(words)
    exact = re.match(r"^=?([0-9][\w.+!]*)=([\w.*]*)$", rest)  # 1.19.2=py36_0, =1.19.2=py36_0
    if exact and not rest.startswith("=="):
        return f"=={exact.group(1)}"
    return ",".join(_clause(part, spec) for part in rest.split(",") if part)


def _clause(part: str, spec: str) -> str:
    match = _CLAUSE.match(part.strip())
    if not match:
        raise Unreadable(f"{spec!r}: {part!r} is not a version that can be read.")
    operator, version = match.group(1) or "", match.group(2)
    star = version.endswith("*")
    bare = version.rstrip("*").rstrip(".")
    if not bare:
        return ""
    if operator in {"", "="}:
        # A bare version after a space is exact in conda, "=1.2" is fuzzy; both with a star are a prefix.
        return f"=={bare}.*" if star or operator == "=" else f"=={bare}"
    if star and operator in {"==", "!="}:
        return f"{operator}{bare}.*"
    return f"{operator}{bare}"


def python_wanted(specifier: str) -> str | None:
    """The Python that a specifier asks for: ``3.6.2``, ``3.8`` or a range as it stands; None for any."""
    single = re.match(r"^==(\d+(?:\.\d+){0,2})(\.\*)?$", specifier)
    return single.group(1) if single else specifier or None


def translate(specs: list[str]) -> Translation:
    """All specifications of ``dependencies``, without the ``pip:`` part. Raises Unreadable."""
    result = Translation()
    for spec in specs:
        name, specifier = split_spec(spec)
        if name == "python":
            result.python = python_wanted(specifier)
        elif name in NOT_ON_PYPI or name.startswith("r-"):
            result.unavailable.append(name)
        elif name in LEFT_OUT or PYPI_NAMES.get(name) == "":
            if name != "pip":
                result.notes.append(f"{name} is left out: the packages from PyPI bring what they need of it.")
        else:
            result.packages.append(PYPI_NAMES.get(name, name) + specifier)
    return result
