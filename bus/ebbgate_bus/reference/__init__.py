"""The bus as an API, for people and tools outside: pages and schemas made from the contracts. Pure but for
`__main__`, which writes them.
"""
