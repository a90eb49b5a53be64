# shellcheck shell=bash
# Certificates, made on the spot: a CA per part, and leaves that it signs. Keys are PKCS#8 PEM.

# ca_ready DIR NAME: DIR/ca.crt and DIR/ca.key.
ca_ready() {
  local dir=$1
  [[ ! -e $dir/ca.crt ]] || return 0
  mkdir -p "$dir"
  pki_key "$dir/ca.key"
  quiet openssl req -x509 -new -sha256 -key "$dir/ca.key" -days 3650 -subj "/CN=$2" -out "$dir/ca.crt.new" \
    -addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=critical,keyCertSign,cRLSign'
  mv "$dir/ca.crt.new" "$dir/ca.crt"
}

# leaf_ready DIR NAME SUBJECT SUBJECT_ALT_NAMES: DIR/NAME.crt and DIR/NAME.key, for servers and clients alike.
leaf_ready() {
  local dir=$1 name=$2 subject=$3 names=$4
  [[ ! -e $dir/$name.crt ]] || return 0
  pki_key "$dir/$name.key"
  quiet openssl req -new -sha256 -key "$dir/$name.key" -subj "$subject" -out "$dir/$name.csr"
  quiet openssl x509 -req -sha256 -in "$dir/$name.csr" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" -days 3650 \
    -set_serial "0x$(openssl rand -hex 8)" -out "$dir/$name.crt.new" -extfile <(
      echo 'basicConstraints=critical,CA:FALSE'
      echo 'keyUsage=critical,digitalSignature'
      echo 'extendedKeyUsage=serverAuth,clientAuth'
      [[ -z $names ]] || echo "subjectAltName=$names"
    )
  mv "$dir/$name.crt.new" "$dir/$name.crt"
  rm "$dir/$name.csr"
}

pki_key() { quiet openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }
