"""`python -m keras_luong_cli`, where the command is not on the path."""

from keras_luong_cli.parser import main

raise SystemExit(main())
