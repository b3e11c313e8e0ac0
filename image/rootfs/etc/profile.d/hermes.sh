# A login shell begins with Debian's own PATH. This file puts the image's directories in front of it
# again. Root must not search directories that the agent may write to.
case :$PATH: in
*:/opt/hermes/.venv/bin:*) ;;
*)
    if [ "$(/usr/bin/id -u)" = 0 ]; then
        PATH=/opt/hermes/bin:/opt/hermes/.venv/bin:$PATH
    else
        PATH=/opt/hermes/bin:/opt/hermes/.venv/bin:/opt/data/.local/bin:$PATH
    fi
    ;;
esac
export PATH
