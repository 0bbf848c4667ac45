"""The methods of the field by name: what each is, what it needs, and how to make it for a training."""

from jaxticket.registry.lookup import METHODS as METHODS
from jaxticket.registry.lookup import get as get
from jaxticket.registry.method import Method as Method
from jaxticket.registry.method import Setting as Setting
