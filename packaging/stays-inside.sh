#!/bin/sh
# stays-inside.sh DIR PLACE: whether DIR/PLACE is in DIR, with links as they are followed from outside.
# The absolute links of an image lead to files of this machine.
root=$(realpath -m "$1/") directory=$(realpath -m "$1/${2%/*}")
case $directory/ in
"${root%/}"/*) ;;
*)
    echo "$1$2 is $directory/${2##*/}, by a link that leads out of $1: \"vmstage install --root\" follows it in there" >&2
    exit 1
    ;;
esac
