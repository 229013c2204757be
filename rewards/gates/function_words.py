"""Frequent function words of the languages that share the Latin script (ours, common knowledge of their grammars)."""

from __future__ import annotations

_LISTS = {
    "en": "the of and to in is that it was for on are with as at be this have from or by not but what were which their "
    "they you we she he his her would there been has had will can if who when",
    "de": "der die das und ist nicht mit sich auf für ein eine einen einem einer des dem den zu im von auch es wird "
    "als an nach wie bei oder aber wir ich sie er aus war hat sind nur noch werden kann",
    "fr": "le la les des et est une un dans que qui pour pas sur avec ce il elle au aux du en par plus ne se sont "
    "cette nous vous ils mais ou son sa ses leur était être ont comme",
    "es": "el la los las de que y en un una es por con para se no del al lo como más pero sus su le ha este esta son "
    "fue está ser también muy porque entre cuando ella ellos",
    "it": "il lo la gli le di che e un una è per con non in si del della dei delle al alla nel nella da sono come più "
    "ma anche ha questo questa suo sua loro era essere ed dal perché",
    "pt": "o a os as de que e em um uma é por com para se não do da dos das no na nos nas ao mais mas como foi seu sua "
    "ele ela são está ser também muito pelo pela entre quando",
    "nl": "de het een en van is niet dat die in op te zijn met voor aan er ook als maar om bij naar uit door over dan "
    "wordt nog wel hij zij wij ik je heeft werd waren deze dit kan",
}

FUNCTION_WORDS: dict[str, frozenset[str]] = {language: frozenset(words.split()) for language, words in _LISTS.items()}
