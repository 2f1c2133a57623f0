# Sourced by the tools. Goes to the checkout's root; `prepare` makes .venv there and builds the extensions in place, both only
# when something changed since the last time. What is missing on the machine is said in one line, exit status 2.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH                                 # with an empty environment bash has a PATH, but its children have none
venv_python=.venv/bin/python

die() {
    echo "memora: $1" >&2
    exit "${2:-2}"
}

# Prints nothing and succeeds, or prints what the interpreter lacks. It must parse on any Python that is called python3.
lacks() {
    "$1" - <<'PY' 2>/dev/null || echo "it does not run"
import os, sys
def check():
    if sys.version_info < (3, 10):
        return "it is Python %d.%d, and 3.10 or newer is needed" % sys.version_info[:2]
    import shlex, shutil, sysconfig
    for module in ("venv", "ensurepip"):
        try:
            __import__(module)
        except ImportError:
            return "it has no module %s (apt install python3-venv)" % module
    header = os.path.join(sysconfig.get_path("include"), "Python.h")
    if not os.path.exists(header):
        return "%s does not exist (apt install python3-dev, dnf install python3-devel)" % header
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        return "there is no C compiler %r (apt install gcc, dnf install gcc, or set CC)" % compiler
    return ""
found = check()
if found:
    print(found)
PY
}

candidates() {
    if [[ -n ${PYTHON:-} ]]; then
        command -v "$PYTHON" || true
        return
    fi
    local name dir
    for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        command -v "$name" || true
    done
    for dir in /usr/local/bin /usr/bin /opt/python/bin ${HOME:+"$HOME/.local/bin"}; do
        compgen -G "$dir/python3" || true
        compgen -G "$dir/python3.1[0-9]" || true
    done
}

# Sets `python` to the first interpreter that has all we need.
find_python() {
    local candidate what reason=
    while read -r candidate; do
        what=$(lacks "$candidate")
        if [[ -z $what ]]; then
            python=$candidate
            return
        fi
        reason=${reason:-"cannot build with $candidate: $what"}
    done < <(candidates)
    [[ -z ${PYTHON:-} || -n $reason ]] || reason="PYTHON=$PYTHON was not found"
    die "${reason:-needs python3, 3.10 or newer, with its headers and venv module, and a C compiler; no python3 was found}"
}

quietly() {
    local log=build/log
    "$@" >"$log" 2>&1 || { cat "$log" >&2; die "failed: $*" 1; }
}

sources() {
    find memora setup.py \( -name '*.pyx' -o -name '*.pxd' -o -name '*.h' -o -name setup.py -o -name '*.lark' -o -name lexer.py -o -name tables.py \) -exec cksum {} +
    find memora -name '*.so' -o -name '*.tables'
    cat build/mode 2>/dev/null || true
    echo "debug=${MEMORA_DEBUG:-} trace=${MEMORA_TRACE:-}"
}

make_venv() {
    local python
    find_python
    echo "memora: making .venv with $("$python" -c 'import sys; print(sys.executable, sys.version.split()[0])')" >&2
    [[ ! -e .venv || -e .venv/pyvenv.cfg ]] || die ".venv is there, but is no virtual environment"
    rm -rf .venv
    quietly "$python" -m venv .venv
    echo "${PYTHON:-}" > .venv/asked
}

prepare() {
    mkdir -p build
    exec 9>build/lock
    ! command -v flock >/dev/null || flock 9
    if ! "$venv_python" -c '' 2>/dev/null || [[ ! -e .venv/asked || ( -n ${PYTHON:-} && ${PYTHON:-} != "$(<.venv/asked)" ) ]]; then
        make_venv
    fi
    local wanted
    wanted=$(cksum < pyproject.toml)
    if [[ ! -e .venv/installed || $wanted != "$(<.venv/installed)" ]]; then
        echo "memora: installing what it needs into .venv, and building" >&2
        local requires
        mapfile -t requires < <(sed -n 's/^requires = //p' pyproject.toml | grep -o '"[^"]*"' | tr -d '"')
        quietly "$venv_python" -m pip install -q "${requires[@]}"
        quietly "$venv_python" -m pip install -q --no-build-isolation -e '.[test]'
        echo "$wanted" > .venv/installed
    fi
    if [[ ! -e .venv/built || $(sources | sort | cksum) != "$(<.venv/built)" ]]; then
        [[ ! -e .venv/built ]] || echo "memora: sources changed, building" >&2
        quietly "$venv_python" setup.py -q build_ext --inplace
        sources | sort | cksum > .venv/built
    fi
    exec 9>&-
}
