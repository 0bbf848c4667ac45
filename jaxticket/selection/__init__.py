"""Which units survive: exactly k of them, without sorting."""

from jaxticket.selection.select import drop_and_grow as drop_and_grow
from jaxticket.selection.select import select as select
from jaxticket.selection.threshold import threshold as threshold
