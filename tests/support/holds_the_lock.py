# Python imports this by itself under the name `sitecustomize`. It makes the gateway whose number is
# in the file `hold` of a directory keep the interpreter lock for good, as a plugin or a debugger
# may. Then nothing of it runs any more, and it handles no signal.
import ctypes, os, pathlib, threading, time
def hold(file):
    while not (file.exists() and file.read_text().strip() == str(os.getpid())):
        time.sleep(0.2)
    file.unlink()
    ctypes.PyDLL(None).sleep(1000000)
if 'HERMES_S6_SUPERVISED_CHILD' in os.environ:
    file = pathlib.Path(os.environ['HOLD_DIRECTORY']) / 'hold'
    threading.Thread(target=hold, args=(file,), daemon=True).start()
