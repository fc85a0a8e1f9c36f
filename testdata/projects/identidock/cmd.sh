#!/bin/bash
set -e
exec python identidock.py
