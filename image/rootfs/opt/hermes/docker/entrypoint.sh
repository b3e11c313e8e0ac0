#!/bin/sh
# For configurations that name this file as the entry point, as earlier images did.
exec /init /opt/hermes/docker/main-wrapper.sh "$@"
