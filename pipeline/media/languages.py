"""Language codes of streams and file names, brought to one form."""

import re

#: ISO 639-2 (terminology and bibliographic codes) to ISO 639-1.
_TWO_LETTERS = dict(
    pair.split(":")
    for pair in (
        "aar:aa abk:ab afr:af aka:ak alb:sq amh:am ara:ar arg:an arm:hy asm:as ava:av ave:ae "
        "aym:ay aze:az bak:ba bam:bm baq:eu bel:be ben:bn bis:bi bod:bo bos:bs bre:br bul:bg "
        "bur:my cat:ca ces:cs cha:ch che:ce chi:zh chu:cu chv:cv cor:kw cos:co cre:cr cym:cy "
        "cze:cs dan:da deu:de div:dv dut:nl dzo:dz ell:el eng:en epo:eo est:et eus:eu ewe:ee "
        "fao:fo fas:fa fij:fj fin:fi fra:fr fre:fr fry:fy ful:ff geo:ka ger:de gla:gd gle:ga "
        "glg:gl glv:gv gre:el grn:gn guj:gu hat:ht hau:ha hbs:sh heb:he her:hz hin:hi hmo:ho "
        "hrv:hr hun:hu hye:hy ibo:ig ice:is ido:io iii:ii iku:iu ile:ie ina:ia ind:id ipk:ik "
        "isl:is ita:it jav:jv jpn:ja kal:kl kan:kn kas:ks kat:ka kau:kr kaz:kk khm:km kik:ki "
        "kin:rw kir:ky kom:kv kon:kg kor:ko kua:kj kur:ku lao:lo lat:la lav:lv lim:li lin:ln "
        "lit:lt ltz:lb lub:lu lug:lg mac:mk mah:mh mal:ml mao:mi mar:mr may:ms mkd:mk mlg:mg "
        "mlt:mt mon:mn mri:mi msa:ms mya:my nau:na nav:nv nbl:nr nde:nd ndo:ng nep:ne nld:nl "
        "nno:nn nob:nb nor:no nya:ny oci:oc oji:oj ori:or orm:om oss:os pan:pa per:fa pli:pi "
        "pol:pl por:pt pus:ps que:qu roh:rm ron:ro rum:ro run:rn rus:ru sag:sg san:sa sin:si "
        "slk:sk slo:sk slv:sl sme:se smo:sm sna:sn snd:sd som:so sot:st spa:es sqi:sq srd:sc "
        "srp:sr ssw:ss sun:su swa:sw swe:sv tah:ty tam:ta tat:tt tel:te tgk:tg tgl:tl tha:th "
        "tib:bo tir:ti ton:to tsn:tn tso:ts tuk:tk tur:tr twi:tw uig:ug ukr:uk urd:ur uzb:uz "
        "ven:ve vie:vi vol:vo wel:cy wln:wa wol:wo xho:xh yid:yi yor:yo zha:za zho:zh zul:zu"
    ).split()
)
_KNOWN = frozenset(_TWO_LETTERS) | frozenset(_TWO_LETTERS.values())
_TAG = re.compile(r"([A-Za-z]{2,3})((?:[-_][A-Za-z0-9]{2,8})*)")
#: Words that players put between the language and the extension.
_FLAGS = frozenset({"sdh", "cc", "hi", "forced", "default", "full", "signs"})
_IN_PART = frozenset({"forced", "signs"})


def normalise_language(code: str | None) -> str | None:
    """``eng`` → ``en``, ``pt_BR`` → ``pt-BR``; ``None`` where no language is stated.

    A code that is well-formed but has no two-letter form stays as it is.
    """
    match = _TAG.fullmatch(code.strip()) if code else None
    if match is None:
        return None
    primary, rest = match[1].lower(), match[2].replace("_", "-")
    if primary in {"und", "mul", "zxx", "mis"}:
        return None
    return _TWO_LETTERS.get(primary, primary) + rest


def speaks(language: str | None, wanted: str) -> bool:
    """Whether a normalised language is the wanted one: ``pt-BR`` is ``pt``; ``pt`` may be
    anything."""
    code = normalise_language(wanted)
    return None not in (language, code) and f"{language}-".startswith(f"{code}-")


def language_of_file_name(name: str) -> str | None:
    """The language in ``film.en.srt``, ``film.pt-BR.forced.srt``; ``None`` where there is none."""
    parts = name.split(".")[1:-1]
    for position in range(len(parts) - 1, -1, -1):
        part = parts[position]
        # "hi" is Hindi, but after a language it means "for the hearing impaired".
        if part.lower() in _FLAGS and (part.lower() != "hi" or position > 0):
            continue
        match = _TAG.fullmatch(part)
        known = match is not None and match[1].lower() in _KNOWN
        return normalise_language(part) if known else None
    return None


def is_forced_file_name(name: str) -> bool:
    """Whether the name says that only some lines are there (``film.en.forced.srt``)."""
    return not _IN_PART.isdisjoint(part.lower() for part in name.split(".")[1:-1])
