# A login shell begins with Debian's own PATH; this puts back what the image has in front of it.
case :$PATH: in
*:/opt/hermes/.venv/bin:*) ;;
*) PATH=/opt/hermes/bin:/opt/hermes/.venv/bin:/opt/data/.local/bin:$PATH ;;
esac
export PATH
