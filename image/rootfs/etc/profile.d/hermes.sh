# A login shell begins with Debian's own PATH; this puts back what the image has in front of it.
# Root does not look for programs where the agent may write.
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
