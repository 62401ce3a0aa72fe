"""The services of the first fleet, one folder each; and those in a folder `services` where Python looks."""

from pkgutil import extend_path

# a folder `services/prices` of yours is `services.prices`, wherever this package is installed
__path__ = extend_path(__path__, __name__)
