"""``python -m eegprompt`` is the command `eegprompt`."""

from eegprompt.cli import main

if __name__ == "__main__":
    main()
