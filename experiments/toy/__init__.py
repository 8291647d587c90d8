"""Small CDCD models on token sequences whose law is known exactly.

`data` draws laws and places tokens, `model` has the networks, `train` trains many seeds at once,
`evaluate` samples, estimates KL(data || generated) and compares with the exact denoiser; `laws`
does all of it for one tokenization of many laws, and `kept` keeps what is finished.
"""
