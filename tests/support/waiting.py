"""How long tests wait: long enough for a machine that is busy with other things, or stands still for a minute."""

import os

HANG_S = float(os.environ.get("HANG_S", "240"))
"""After this time, what a test waits for is taken to hang. A test that passes does not wait longer because of it."""
