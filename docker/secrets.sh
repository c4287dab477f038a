#!/bin/sh
# Makes the files under docker/secrets that compose.yaml hands to the containers. What is there
# already stays, so it may be run again.
#
# The containers' users are not yours, and Compose hands a file over with its owner and rights: the
# files are readable for all, and the directory for you alone.
set -eu
umask 022
cd "$(dirname "$0")"
mkdir -p secrets
chmod 700 secrets
cd secrets

random() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

# keep NAME: standard input becomes the file, if there is none.
keep() {
    if [ -e "$1" ]; then
        cat > /dev/null
        return
    fi
    cat > "$1.new"
    mv "$1.new" "$1"
    echo "made docker/secrets/$1"
}

random | keep database-password
echo "postgresql://cutwork:$(cat database-password)@postgres:5432/cutwork" | keep database-url
random | keep broker-password
echo "amqp://cutwork:$(cat broker-password)@rabbitmq:5672//" | keep broker-url
printf 'default_user = cutwork\ndefault_pass = %s\n' "$(cat broker-password)" | keep rabbitmq.conf
random | keep callback-secrets
random | keep console-token
if [ ! -e api-tokens ]; then
    random | keep api-tokens
    echo "docker/secrets/api-tokens is made up: the sandbox takes it, the provider wants yours"
fi
